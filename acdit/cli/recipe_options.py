"""What the commands take that start from a recipe, typed. Free of torch."""

from dataclasses import dataclass

from ..training.autoencoder_config import AutoencoderRecipe
from ..training.config import RANK_FLOPS, Recipe
from ..utils.checks import at_least


@dataclass
class TrainOptions(Recipe):
    """A recipe to train by, and how to go on with an earlier run of it."""

    allow_changes: bool = False
    """Go on with a run that was started with another recipe, and list what differs."""


@dataclass
class EncodeOptions(Recipe):
    """A recipe whose images are to be encoded, and how."""

    device: str | None = None
    """Such as cpu or cuda; a GPU where there is one, when left out."""
    batch: int = 32
    """Images that are encoded at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, batch=self.batch)


@dataclass
class PlanOptions(Recipe):
    """What a training run would cost in time and memory, and what it would trip over."""

    ranks: int = 1
    """Processes, one for each accelerator."""
    flops: float = RANK_FLOPS
    """FLOP/s that a rank reaches; the default is about 40% of the bf16 peak of an H100."""
    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, ranks=self.ranks, flops=self.flops)


@dataclass
class AutoencoderOptions(AutoencoderRecipe):
    """Train an autoencoder for latent space."""

    device: str | None = None
    """Such as cpu or cuda; a GPU where there is one, when left out."""
