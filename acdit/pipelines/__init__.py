"""Pipelines in the manner of diffusers, for images, video and text."""
