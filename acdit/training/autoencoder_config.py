"""Typed configuration of autoencoder training. This module does not import torch."""

from dataclasses import dataclass, field
from typing import ClassVar

from ..data.config import DataConfig
from ..utils.errors import UserError
from ..utils.ranges import Count, NonNegative, Ranged, Seed
from .config import NamedRun


@dataclass
class AutoencoderModelConfig(Ranged):
    """Configuration of the autoencoder, an `AutoencoderKL` of diffusers."""

    section: ClassVar[str] = "model."

    channels: list[Count] = field(default_factory=lambda: [32, 64, 64])
    """Width of each stage; each stage after the first halves the side of the image."""
    latent_channels: Count = 4
    """Number of channels of a latent cell."""
    layers: Count = 1
    """Number of residual layers in each stage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels or any(width < 4 or width % 4 for width in self.channels):
            raise UserError(f"model.channels must be multiples of 4, one for each stage, not {self.channels}")


@dataclass
class AutoencoderRecipe(NamedRun):
    """Training run of an autoencoder, with squared error and the KL divergence of its latents as the loss."""

    data: DataConfig = field(default_factory=DataConfig)
    model: AutoencoderModelConfig = field(default_factory=AutoencoderModelConfig)
    kl_weight: NonNegative = 1e-6
    """Weight of the Kullback-Leibler divergence, per pixel, relative to the squared error."""
    learning_rate: NonNegative = 1e-3
    """Peak learning rate of AdamW, which decays to zero on a cosine schedule."""
    steps: Count = 1000
    """Number of optimiser steps."""
    batch_size: Count = 32
    """Number of images per step."""
    seed: Seed = 0
    """Seed of all random draws."""
    checkpoint_every: Count = 500
    """Number of steps between checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        modality = self.data.modality
        if "autoencoder.model" in modality.unused_keys:
            raise UserError(
                f"an autoencoder is for images, not for {modality.samples}: "
                f"leave out data.{modality.length_key}"
            )
