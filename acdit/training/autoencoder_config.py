"""The typed configuration of an autoencoder's training. Free of torch."""

from dataclasses import dataclass, field

from ..data.config import DataConfig
from ..utils.checks import at_least
from ..utils.errors import UserError
from .config import NamedRun


@dataclass
class AutoencoderModelConfig:
    """The autoencoder, an AutoencoderKL of diffusers."""

    channels: list[int] = field(default_factory=lambda: [32, 64, 64])
    """Width of every stage; each stage after the first halves the edge of the image."""
    latent_channels: int = 4
    """Channels of a latent cell."""
    layers: int = 1
    """Residual layers of a stage."""

    def __post_init__(self) -> None:
        at_least(1, model__latent_channels=self.latent_channels, model__layers=self.layers)
        if not self.channels or any(width < 4 or width % 4 for width in self.channels):
            raise UserError(f"model.channels must be multiples of 4, one for each stage, not {self.channels}")


@dataclass
class AutoencoderRecipe(NamedRun):
    """A named training run of an autoencoder: squared error, and a bound on what its latents tell."""

    data: DataConfig = field(default_factory=DataConfig)
    model: AutoencoderModelConfig = field(default_factory=AutoencoderModelConfig)
    kl_weight: float = 1e-6
    """Weight of the Kullback-Leibler divergence, per pixel, beside the squared error."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW; it falls to zero on a cosine."""
    steps: int = 1000
    """Optimiser steps."""
    batch_size: int = 32
    """Images in a step."""
    seed: int = 0
    """Seed of every random draw."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        at_least(0, kl_weight=self.kl_weight, learning_rate=self.learning_rate)
        modality = self.data.modality
        if "autoencoder.model" in modality.unused_keys:
            raise UserError(
                f"an autoencoder is for images, not for {modality.samples}: "
                f"leave out data.{modality.length_key}"
            )
        at_least(1, steps=self.steps, batch_size=self.batch_size, checkpoint_every=self.checkpoint_every)
