"""Options of every command that runs a model, and of those whose models take guidance. Free of torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..model.layout import parse_dims
from ..utils.errors import UserError
from ..utils.ranges import Count, NonNegative, Number, Ranged, Seed


@dataclass
class RunOptions(Ranged):
    """What every command that runs a model takes."""

    section: ClassVar[str] = "--"
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Those that --out may have, where the modality of the model decides on them."""
    example: ClassVar[str] = ""
    """Command lines for the help."""

    model: str | None = None
    """A pipeline directory, a training run, or mnist, moving-digits or shakespeare, the models in the
    package; when left out mnist, or where options are for video or for text the one that they are for."""
    seed: Seed = 0
    """Seed of the noise."""
    device: str | None = None
    """Such as cpu or cuda; a GPU where there is one, when left out."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the network."""
    batch: Count = 64
    """Samples that are drawn at once."""
    steps: Count | list[Count] | None = None
    """Solver steps per block, one number or one for each block; the model's own when left out."""


@dataclass
class GuidedOptions(RunOptions):
    """What commands take that run a model of images or of video."""

    guidance: Number | None = None
    """Classifier-free guidance, 1 = none; the model's own when left out."""
    guidance_interval: tuple[NonNegative, NonNegative] | None = None
    """Lowest and highest noise level (sigma) at which guidance acts; all when left out."""
    fast: bool = False
    """8 steps a block, guided at the middle noise levels alone, for --steps and --guidance-interval: a
    quarter of the cost of 25 guided steps."""
    vae_slicing: bool = False
    """Let the autoencoder decode images one by one, to save memory."""
    vae_tiling: bool = False
    """Let the autoencoder decode large images tile by tile, to save memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.guidance_interval or (0, 1)
        if not low < high:
            raise UserError(f"--guidance-interval must be LOW,HIGH with 0 <= LOW < HIGH, not {low},{high}")
        if self.fast and (self.steps is not None or self.guidance_interval is not None):
            raise UserError("--fast stands for --steps and --guidance-interval: give it without them")


def block_of(block: str | None) -> tuple[int, ...] | None:
    """Return the sizes of a block as it is typed, such as 4x4; None where none is given."""
    return None if block is None else parse_dims(block, "--block")


def check_labels(labels: list[int | str] | None) -> None:
    """Raise UserError for an empty list of labels."""
    if labels == []:
        raise UserError("--labels must name at least one class, such as 0,1,2")
