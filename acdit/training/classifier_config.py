"""Typed configuration of classifiers and probes. Does not import torch."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from ..utils.errors import UserError
from ..utils.ranges import (
    Count,
    FractionBelowOne,
    Magnitude,
    NonNegative,
    Range,
    Ranged,
    Timestep,
)


@dataclass
class ClassifierConfig(Ranged):
    """Configuration of a classifier (training.objective classification) and of probes (probes)."""

    section: ClassVar[str] = "classifier."

    pooling: Literal["mean", "last", "attention"] = "mean"
    """Pooling of tokens before the head: mean over all tokens, over those of the last block (last), or by
    learned queries (attention)."""
    queries: Count = 1
    """Number of queries of attention pooling, a divisor of the hidden size (arXiv 2506.10178)."""
    attention: Literal["block-causal", "bidirectional"] = "block-causal"
    """Attention among the clean blocks: as the generator was trained, or of all tokens to all tokens."""
    timestep: Timestep | None = None
    """Timestep of noised input, from 0 to below 1000: one block with timestep conditioning, as in the
    protocol for DiT; default: none, the network reads the clean image."""
    label_smoothing: FractionBelowOne = 0.0
    """Probability that is spread evenly over all classes (arXiv 1512.00567)."""
    mixup: NonNegative = 0.0
    """Alpha of mixup, which blends two images by a weight from Beta(alpha, alpha) (arXiv 1710.09412); 0 =
    off. With cutmix too, each image gets one of the two, with equal probability."""
    cutmix: NonNegative = 0.0
    """Alpha of cutmix, which pastes a rectangle of another image, whose area is from Beta(alpha, alpha)
    (arXiv 1905.04899); 0 = off."""
    drop_path: FractionBelowOne = 0.0
    """Probability that a branch of the last layer is dropped for an image, rising linearly over the layers
    from 0 (stochastic depth, arXiv 1603.09382); no effect on the frozen network of probes."""
    shift: Annotated[int, Range(0, 1024)] = 0
    """Maximum random translation in pixels (or latent cells) along each axis, padded with the border."""
    rotation: Annotated[float, Range(0, 180)] = 0.0
    """Maximum random rotation in degrees, in both directions, padded with the border; for pixels."""
    scaling: FractionBelowOne = 0.0
    """Maximum random relative change of the scale, 0.1 for 0.9 to 1.1, padded with the border; for pixels."""
    randaugment: Annotated[int, Range(0, 100)] = 0
    """Number of operations of RandAugment per image (arXiv 1909.13719), for pixels; 0 = off."""
    randaugment_magnitude: Magnitude = 9.0
    """Magnitude of RandAugment's operations, 0..10."""
    probe: Literal["none", "linear", "attention", "both"] = "none"
    """Probes at every layer of a frozen network (training.objective probes): linear with mean pooling,
    attention with pooling by learned queries, or both."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.timestep is not None and self.attention != "block-causal":
            raise UserError(
                f"classifier.attention {self.attention} is for the clean image, but classifier.timestep "
                f"{self.timestep:g} noises it: leave out one"
            )

    @property
    def mixes(self) -> bool:
        """Return whether images are mixed with others."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def of_pixels(self) -> str:
        """Return the name of a setting that is on and is for pixels, not latents; an empty text if none."""
        return next((name for name in ("rotation", "scaling", "randaugment") if getattr(self, name)), "")
