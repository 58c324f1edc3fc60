"""What every objective takes and returns: the key of a batch's random draws, and losses by view."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

TRAIN_STEPS = 1000


@dataclass(frozen=True)
class SampleKey:
    """What the draws for a batch are keyed by, so that they depend on neither ranks nor restarts.

    Attributes:
        seed: of the run.
        epochs, indices: of every sample: the pass over the data set, and the place in it.
        step: of the run; what the samples of a batch share may depend on it.
        places: of every sample among those of the step, over all ranks; None = all are the first.
        batch: samples of the step.
    """

    seed: int
    epochs: Sequence[int]
    indices: Sequence[int]
    step: int = 0
    places: Sequence[int] | None = None
    batch: int = 1


@dataclass(frozen=True)
class Losses:
    """The mean error of every noised view, unweighted, beside what it was for and what it counts.

    Squared errors of continuous data; of text what a view adds to the NELBO, in nats per token.
    """

    per_view: Tensor  # (N, M)
    timesteps: Tensor  # (N, M)
    blocks: tuple[int, ...]  # M
    weights: Tensor | None = None  # (N, M); None = all 1

    @property
    def mean(self) -> Tensor:
        """The loss to minimise."""
        return (self.per_view if self.weights is None else self.weights * self.per_view).mean()
