"""Losses of samples given each class, by which a generator classifies (arXiv 2303.16203).

All classes of a sample share the noise, so that most of its variance cancels in their differences. The
classes are views of one call and share the pass over the clean blocks.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..model.layout import Layout
from ..model.transformer import ACDiTTransformer
from ..utils.errors import UserError
from ..utils.finite import is_finite
from ..utils.randomness import generator
from .continuous import DiffusionObjective
from .likelihood import all_masks, counted_masks, nelbo, timed_masks
from .masked import Schedule
from .objective import TRAIN_STEPS, SampleKey
from .schedulers import Prediction
from .text_likelihood import EXACT_TOKENS

MAX_TOKENS = 2**15  # maximum number of tokens in the views of one call
STEP = (5**0.5 - 1) / 2  # between the times of successive draws, which spreads any number of them evenly


class ClassLosses(NamedTuple):
    """Losses of N samples given each of K classes, by D draws, in float64.

    Attributes:
        values: Losses, summed over the blocks of a sample, (N, K, D).
        exact: Whether the losses are sums without random draws, D = 1.
    """

    values: Tensor
    exact: bool = False

    @property
    def means(self) -> Tensor:
        """Return the mean loss of every sample given each class, (N, K)."""
        return self.values.mean(dim=2)

    def margins(self) -> tuple[Tensor, Tensor]:
        """Return the margin of the best class of every sample over the second, and its standard error.

        The margin (N,) is the difference of their mean losses. Its error (N,) is that of the mean over the
        draws, which are taken as independent, and so an upper bound where their times are spread evenly; 0
        for exact losses, NaN for a single draw.
        """
        best, second = self.means.topk(2, dim=1, largest=False).indices.unbind(dim=1)
        rows = torch.arange(len(best), device=best.device)
        differences = self.values[rows, second] - self.values[rows, best]  # (N, D)
        draws = differences.shape[1]
        if self.exact:
            errors = torch.zeros_like(differences[:, 0])
        elif draws == 1:
            errors = torch.full_like(differences[:, 0], torch.nan)
        else:
            errors = differences.std(dim=1) / draws**0.5
        return differences.mean(dim=1), errors


@torch.no_grad()
def denoising_class_losses(
    network: ACDiTTransformer,
    blocks: Tensor,
    layout: Layout,
    *,
    prediction: Prediction,
    seed: int,
    indices: Sequence[int],
    draws: int,
) -> ClassLosses:
    """Return the denoising losses of continuous data given each class.

    The loss of a block is the mean squared error of what the network predicts, as in training, and is summed
    over the blocks. A draw depends on the seed, the index of the sample, and its number alone.

    Args:
        network: Network of images or clips with classes.
        blocks: Clean blocks (N, T, B, C).
        layout: Layout of the blocks.
        prediction: What the network predicts.
        seed: Seed of the draws.
        indices: Index of every sample in its data set.
        draws: Number of draws of noise and time, D.

    Raises:
        UserError: If the network has no classes, its past depends on them, or a loss is not finite.
    """
    classes = number_of_classes(network)
    size = max(1, MAX_TOKENS // (layout.num_tokens * classes))  # samples whose classes fit into one call
    if len(blocks) > size:
        parts = [slice(first, first + size) for first in range(0, len(blocks), size)]
        losses = [
            denoising_class_losses(
                network,
                blocks[part],
                layout,
                prediction=prediction,
                seed=seed,
                indices=indices[part],
                draws=draws,
            ).values
            for part in parts
        ]
        return ClassLosses(torch.cat(losses))
    noise, times = _noise(seed, indices, draws, blocks.shape[1:])
    if prediction != "flow":
        times = times.floor().clamp(max=TRAIN_STEPS - 1)
    wide = blocks.to(torch.promote_types(blocks.dtype, torch.float32))
    corrupt = DiffusionObjective(prediction).corrupt
    number = max(1, MAX_TOKENS // (len(blocks) * layout.num_tokens))  # views of each block in one call
    pairs = [(draw, label) for draw in range(draws) for label in range(classes)]
    columns: list[Tensor] = []
    for first in range(0, len(pairs), number):
        part_draws, part_labels = map(list, zip(*pairs[first : first + number], strict=True))
        views = [block for block in range(layout.num_blocks) for _ in part_draws]
        chosen = torch.tensor(part_draws * layout.num_blocks)
        steps = times[:, chosen, views].to(wide.device, wide.dtype)  # (N, M)
        own_noise = noise[:, chosen, views].to(wide.device, wide.dtype)  # (N, M, B, C)
        noised, target = corrupt(wide[:, views], own_noise, steps)
        labels = torch.tensor(part_labels * layout.num_blocks, device=blocks.device)
        predicted = network(
            noised.to(blocks.dtype),
            steps if network.config["time_conditioning"] else None,
            layout=layout,
            blocks=views,
            clean=blocks[:, :-1] if layout.num_blocks > 1 else None,
            labels=labels.expand(len(blocks), -1),
        ).sample
        errors = (predicted.to(target.dtype) - target).square().mean(dim=(2, 3)).double().cpu()  # (N, M)
        columns.append(errors.unflatten(1, (layout.num_blocks, -1)).sum(dim=1))
    return ClassLosses(_checked(torch.cat(columns, dim=1).unflatten(1, (draws, classes)).transpose(1, 2)))


@torch.no_grad()
def token_class_losses(
    network: ACDiTTransformer,
    tokens: Tensor,
    lengths: Tensor,
    layout: Layout,
    *,
    seed: int,
    indices: Sequence[int],
    draws: int,
    schedule: Schedule = "log_linear",
) -> ClassLosses:
    """Return the negative log-likelihoods of sequences of tokens given each class, or bounds, in nats.

    Blocks of one token give the likelihood itself, and blocks of a few tokens the exact NELBO, both without
    draws. Larger blocks, and networks with time conditioning, give estimates of the NELBO.

    Args:
        network: Network over token ids with classes.
        tokens: Token ids (N, L).
        lengths: Number of tokens of each sequence that are not padding, (N,).
        layout: Layout of (L,).
        seed: Seed of the draws.
        indices: Index of every sample in its data set.
        draws: Number of draws, D, where the result is not exact.
        schedule: Noise schedule of networks with time conditioning.

    Raises:
        UserError: If the network has no classes, or a loss is not finite.
    """
    classes, timed = number_of_classes(network), network.config["time_conditioning"]
    exact = not timed and layout.block_tokens <= EXACT_TOKENS
    key = SampleKey(seed, [0] * len(indices), indices)
    if exact:
        masks = all_masks(lengths, layout)
    elif timed:
        masks = timed_masks(key, lengths, layout, range(draws), schedule)
    else:
        masks = counted_masks(key, lengths, layout, range(draws))
    count = masks.weights.shape[2]
    masks = masks._replace(  # every class, one after the other, for every mask
        masked=masks.masked.repeat_interleave(classes, dim=2),
        weights=masks.weights.repeat_interleave(classes, dim=2),
        times=None if masks.times is None else masks.times.repeat_interleave(classes, dim=2),
        orders=None,
        cuts=None,
        uniform=None,
    )
    labels = torch.arange(classes).repeat(count)
    losses = nelbo(network, layout.to_blocks(tokens), layout, masks, labels)  # (N, T, count K)
    values = losses.sum(dim=1).unflatten(1, (count, classes)).transpose(1, 2)  # (N, K, count)
    return ClassLosses(values.sum(dim=2, keepdim=True) if exact else values, exact)


def number_of_classes(network: ACDiTTransformer) -> int:
    """Return the number of classes of a network.

    Raises:
        UserError: If there are fewer than two, or if they cannot share a pass over the clean blocks.
    """
    if network.context_sees_labels:
        raise UserError("a generator whose past depends on the class cannot classify: take another model")
    classes = network.config["num_classes"] or 0
    if classes < 2:
        raise UserError(
            f"a generator can classify only if it was trained with several classes, not {classes}: "
            "take a model with classes, or train a classifier from it"
        )
    return classes


def _noise(seed: int, indices: Sequence[int], draws: int, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Draw noise (N, D, T, B, C) and times (N, D, T) in [0, 1000) of samples of shape (T, B, C).

    The times of each block are spread evenly over the draws from a random start.
    """
    noise, starts = torch.empty(len(indices), draws, *shape), torch.empty(len(indices), 1, shape[0])
    for row, index in enumerate(indices):
        starts[row].uniform_(generator=generator(seed, "generative classifier", index, "times"))
        for draw in range(draws):
            noise[row, draw].normal_(generator=generator(seed, "generative classifier", index, draw))
    steps = STEP * torch.arange(draws, dtype=torch.float64)[:, None]
    return noise, TRAIN_STEPS * ((starts + steps) % 1).float().clamp(max=1 - 2**-24)


def _checked(losses: Tensor) -> Tensor:
    if not is_finite(losses):
        raise UserError("the losses are not finite: use --dtype float32, or a model whose weights are sound")
    return losses
