"""Typed configuration of the noise process and the objective of generators. Does not import torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..utils.errors import UserError
from ..utils.ranges import Count, Fraction, NonNegative, Number, Positive, Ranged
from ..utils.settings import fields_of


@dataclass
class DiffusionConfig(Ranged):
    """Configuration of the noise process and the objective."""

    section: ClassVar[str] = "diffusion."

    prediction: Literal["epsilon", "v", "flow"] = "epsilon"
    """Prediction target of the network: epsilon or v (DDPM's linear betas), or flow (straight paths)."""
    timesteps: Literal["uniform", "logit_normal"] = "uniform"
    """Distribution of training timesteps."""
    timestep_location: Number = 0.0
    """Location of logit_normal; above 0, noisier views are drawn more often (arXiv 2403.03206)."""
    label_dropout: Fraction = 0.1
    """Fraction of draws whose label is replaced by the null label, for classifier-free guidance."""
    draws: Count = 1
    """Number of noise draws that share one pass over the clean blocks."""
    views: Count | None = None
    """Number of blocks to noise in each step, drawn at random; default: all blocks."""
    context_noise: NonNegative = 0.0
    """Standard deviation of noise added to the clean blocks given to the network, to reduce drift."""
    min_snr: Positive | None = None
    """Gamma of min-SNR loss weights, such as 5 (arXiv 2303.09556); default: unweighted loss."""
    masks: Literal["counted", "independent"] | None = None
    """Texts only: masks of a block, a number of tokens that is drawn evenly (counted), or each token with the
    probability of a drawn time (independent); default: counted, or independent with time conditioning."""
    schedule: Literal["log_linear", "cosine"] = "log_linear"
    """Texts with independent masks only: fraction of unmasked tokens at time t, 1 - t (log_linear) or
    1 - sin(pi t / 2) (cosine)."""
    times: tuple[Fraction, Fraction] = (1e-3, 1.0)
    """Texts with independent masks only: lowest and highest time to draw; equal for a single time."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.times
        if not 0 < low <= high <= 1:
            raise UserError(f"diffusion.times must be LOW,HIGH with 0 < LOW <= HIGH <= 1, not {low},{high}")
        if low == 1 and self.schedule == "cosine":
            raise UserError("diffusion.times must begin below 1 with diffusion.schedule cosine, not 1.0,1.0")
        if self.timestep_location and self.timesteps != "logit_normal":
            raise UserError(
                f"diffusion.timestep_location is {self.timestep_location}, but it only applies if "
                "diffusion.timesteps is logit_normal: set that, or leave timestep_location at 0"
            )

    def masks_for(self, time_conditioning: bool) -> Literal["counted", "independent"]:
        """Return how the masks of texts are drawn for a network with or without time conditioning.

        Raises:
            UserError: If the masks do not fit the network, or other keys do not fit the masks.
        """
        masks = self.masks or ("independent" if time_conditioning else "counted")
        if masks == "independent":
            return masks
        if time_conditioning:
            raise UserError(
                "diffusion.masks counted draws no times, which a network with time conditioning needs: set "
                "diffusion.masks to independent, or train a network without time conditioning"
            )
        known = fields_of(DiffusionConfig)
        for key in ("schedule", "times"):
            if getattr(self, key) != known[key].default:
                raise UserError(
                    f"diffusion.{key} has no meaning for counted masks, which have no times: leave it out, "
                    "or set diffusion.masks to independent"
                )
        return masks
