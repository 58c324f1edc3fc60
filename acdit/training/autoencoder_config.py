"""The typed configuration of an autoencoder's training. Free of torch."""

from dataclasses import dataclass, field
from typing import ClassVar

from ..data.config import DataConfig
from ..utils.errors import UserError
from ..utils.ranges import Count, NonNegative, Ranged, Seed
from .config import NamedRun


@dataclass
class AutoencoderModelConfig(Ranged):
    """The autoencoder, an AutoencoderKL of diffusers."""

    section: ClassVar[str] = "model."

    channels: list[Count] = field(default_factory=lambda: [32, 64, 64])
    """Width of every stage; each stage after the first halves the edge of the image."""
    latent_channels: Count = 4
    """Channels of a latent cell."""
    layers: Count = 1
    """Residual layers of a stage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels or any(width < 4 or width % 4 for width in self.channels):
            raise UserError(f"model.channels must be multiples of 4, one for each stage, not {self.channels}")


@dataclass
class AutoencoderRecipe(NamedRun):
    """A named training run of an autoencoder: squared error, and a bound on what its latents tell."""

    data: DataConfig = field(default_factory=DataConfig)
    model: AutoencoderModelConfig = field(default_factory=AutoencoderModelConfig)
    kl_weight: NonNegative = 1e-6
    """Weight of the Kullback-Leibler divergence, per pixel, beside the squared error."""
    learning_rate: NonNegative = 1e-3
    """Peak learning rate of AdamW; it falls to zero on a cosine."""
    steps: Count = 1000
    """Optimiser steps."""
    batch_size: Count = 32
    """Images in a step."""
    seed: Seed = 0
    """Seed of every random draw."""
    checkpoint_every: Count = 500
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        modality = self.data.modality
        if "autoencoder.model" in modality.unused_keys:
            raise UserError(
                f"an autoencoder is for images, not for {modality.samples}: "
                f"leave out data.{modality.length_key}"
            )
