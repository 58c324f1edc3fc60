"""The protocol of objectives: the key of a batch's random draws in, losses by view out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..model.layout import Layout

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


class Answer(Protocol):
    """What a network returns for noised views, such as `ACDiTOutput`."""

    @property
    def sample(self) -> Tensor:
        """Predictions (N, M, B, C), or logits (N, M, B, V)."""
        ...


class Network(Protocol):
    """Anything that is called as `ACDiTTransformer.forward` is, perhaps wrapped for several ranks."""

    def __call__(
        self,
        noised: Tensor,
        timestep: Tensor | None,
        /,
        *,
        layout: Layout,
        blocks: Sequence[int],
        clean: Tensor | None,
        labels: Tensor | None,
    ) -> Answer:
        """Predict noised views of blocks from the clean blocks before them."""
        ...


class Objective(Protocol):
    """What a network learns: anything that measures its loss on a batch. Training asks for nothing else."""

    def loss(
        self,
        model: Network,
        data: Tensor,
        *,
        layout: Layout,
        key: SampleKey,
        labels: Tensor | None = None,
        null_label: int | None = None,
        blocks: Sequence[int] | None = None,
        draws: Sequence[int] = (0,),
    ) -> Losses:
        """Measure the loss of a network on a batch.

        Args:
            model: the network.
            data: clean blocks (N, T, B, C), or token ids (N, T, B).
            layout: of the blocks.
            key: of the random draws.
            labels: (N,), with `null_label` where draws may drop them.
            null_label: the label that stands for none.
            blocks: the blocks to noise, sorted; None = all.
            draws: numbers of the noise draws that share a pass over the clean blocks.
        """
        ...
