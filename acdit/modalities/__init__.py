"""Differences between images, video and text: one value per modality. Does not import torch."""
