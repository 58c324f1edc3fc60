"""Pipelines for images, video and text, with the interface of diffusers."""
