"""Protocol of objectives, with the key of a batch's random draws as input and losses per view as output."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..model.layout import Layout

TRAIN_STEPS = 1000


@dataclass(frozen=True)
class SampleKey:
    """Key of the random draws for a batch, so that they depend on neither ranks nor restarts.

    Attributes:
        seed: Seed of the run.
        epochs: Pass over the data set of every sample.
        indices: Index in the data set of every sample.
        step: Step of the run; values that the samples of a batch share may depend on it.
        positions: Index of every sample among those of the step, over all ranks; None = 0 for all.
        batch: Number of samples of the step.
    """

    seed: int
    epochs: Sequence[int]
    indices: Sequence[int]
    step: int = 0
    positions: Sequence[int] | None = None
    batch: int = 1


@dataclass(frozen=True)
class Losses:
    """Mean error of every noised view, unweighted, with the timesteps, blocks and weights of the views.

    The errors are squared errors for continuous data; for text, they are the contributions of the views to
    the NELBO, in nats per token. Means over views weigh each by its `fractions`, so that padding at the end
    of texts does not count. For a classifier, they are the cross-entropies of its heads, which stand in place
    of views.

    Attributes:
        per_view: Errors (N, M).
        timesteps: Timesteps (N, M); with counted masks of text, 1000 times the fraction of masked tokens.
        blocks: Block index of each of the M views.
        weights: Loss weights (N, M); None = all 1.
        fractions: Fractions (N, M) of the tokens of a view that are not padding; None = all 1.
        correct: Weights (N, M) of the label that a head assigns; None = not a classifier.
    """

    per_view: Tensor
    timesteps: Tensor
    blocks: tuple[int, ...]
    weights: Tensor | None = None
    fractions: Tensor | None = None
    correct: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """Return the loss to minimise, a scalar: the weighted mean over samples and views (Eq. 3)."""
        losses = self.per_view if self.weights is None else self.weights * self.per_view
        return (losses if self.fractions is None else self.fractions * losses).mean()

    @property
    def per_sample(self) -> Tensor:
        """Return the mean error of every sample, unweighted, (N,); 0 for a sample of padding alone."""
        if self.fractions is None:
            return self.per_view.mean(1)
        counted = self.fractions.mean(1)
        return (self.fractions * self.per_view).mean(1) / torch.where(counted > 0, counted, 1.0)


class NetworkOutput(Protocol):
    """Output of a network for noised views, such as `ACDiTOutput`."""

    @property
    def sample(self) -> Tensor:
        """Return predictions (N, M, B, C), or logits (N, M, B, V)."""
        ...


class Network(Protocol):
    """Callable with the signature of `ACDiTTransformer.forward`, possibly wrapped for several ranks."""

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
    ) -> NetworkOutput:
        """Predict noised views of blocks from the clean blocks before them."""
        ...


class Objective(Protocol):
    """Training objective: any object that computes the loss of a network on a batch.

    Training requires no other method.
    """

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
        """Compute the loss of a network on a batch.

        Args:
            model: Network to train.
            data: Clean blocks (N, T, B, C), or token ids (N, T, B).
            layout: Layout of the blocks.
            key: Key of the random draws.
            labels: Labels (N,); None = no labels.
            null_label: Label that replaces dropped labels; None = no label is dropped.
            blocks: Blocks to noise, sorted; None = all.
            draws: Numbers of the noise draws that share a pass over the clean blocks.

        Returns:
            Losses of the views, of which `mean` is to be minimised.
        """
        ...
