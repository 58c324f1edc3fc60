"""Likelihoods of texts under masked diffusion: the NELBO exactly, by counts of masks, or by times.

Without time conditioning the NELBO's integral over time can be done by hand: a set of n of a block's B tokens
is masked with the total weight (n - 1)! (B - n)! / B!, whatever the schedule. So small blocks are summed over
all their sets, a block of one token is exact autoregression, and larger ones are estimated from drawn sets.
"""

import math
from collections.abc import Sequence
from itertools import chain, combinations
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..diffusion import TRAIN_STEPS, SampleKey
from ..layout import Layout
from ..masked import Schedule, loss_weight, masked_nll, masked_share, strata
from ..randomness import generator

EXACT_TOKENS = 4  # blocks of up to so many tokens are summed over all their 2^B - 1 sets


class Masks(NamedTuple):
    """Views to ask for, D of each block, and what each counts in the sum of a block's masked tokens.

    Attributes:
        masked: (N, T, D, B).
        weights: (N, T, D).
        times: (N, T, D) in [0, 1], for networks that see them.
    """

    masked: Tensor
    weights: Tensor
    times: Tensor | None = None


def all_masks(samples: int, layout: Layout) -> Masks:
    """Every set of masked tokens with its exact weight; the sum over the sets is the NELBO."""
    size = layout.block_tokens
    sets = list(chain.from_iterable(combinations(range(size), count) for count in range(1, size + 1)))
    masked = torch.zeros(len(sets), size, dtype=torch.bool)
    for row, places in enumerate(sets):
        masked[row, list(places)] = True
    weights = [1 / (len(places) * math.comb(size, len(places))) for places in sets]
    shape = samples, layout.num_blocks
    return Masks(masked.expand(*shape, -1, -1), torch.tensor(weights, dtype=torch.float64).expand(*shape, -1))


def counted_masks(key: SampleKey, layout: Layout, draws: Sequence[int]) -> Masks:
    """For each draw a number n of 1..B, spread evenly over blocks, and n random tokens, with weight B / n.

    Each draw is an unbiased estimate by itself, of finite variance: no time is cut off.
    """
    size = layout.block_tokens
    shares, orders = _draws(key, layout, draws)
    counts = (shares * size).long().clamp(max=size - 1) + 1  # (N, T, D)
    return Masks(orders.argsort(-1) < counts[..., None], size / counts.double())


def timed_masks(
    key: SampleKey,
    layout: Layout,
    draws: Sequence[int],
    schedule: Schedule = "log_linear",
    low: float = 1e-3,
) -> Masks:
    """The protocol of the block-diffusion papers: a time of [low, 1] for each draw, tokens masked by it."""
    shares, thresholds = _draws(key, layout, draws)
    times = 1 - (1 - low) * shares
    return Masks(thresholds < masked_share(times, schedule)[..., None], loss_weight(times, schedule), times)


@torch.no_grad()
def nelbo(model: Any, tokens: Tensor, layout: Layout, masks: Masks, chunk: int = 16) -> Tensor:
    """What each view adds to the NELBO, in nats: (N, T, D), float64.

    The sum over the views of `all_masks`, or of one draw of the others, over all blocks is that of a text.

    Args:
        model: an `ACDiTTransformer` over token ids, the mask last.
        tokens: clean (N, T, B).
        layout: of the blocks.
        masks: the views.
        chunk: views of a block in one call, which share a pass over the clean tokens.
    """
    mask_token = model.config["vocab_size"] - 1
    found = []
    for first in range(0, masks.masked.shape[2], chunk):
        masked = masks.masked[:, :, first : first + chunk].to(tokens.device)  # (N, T, d, B)
        target = tokens[:, :, None].expand(masked.shape)
        views = tuple(block for block in range(layout.num_blocks) for _ in range(masked.shape[2]))
        times = None if masks.times is None else masks.times[:, :, first : first + chunk].flatten(1)
        logits = model(
            target.masked_fill(masked, mask_token).flatten(1, 2),
            None if times is None else (TRAIN_STEPS * times).float().to(tokens.device),
            layout=layout,
            blocks=views,
            clean=tokens[:, :-1] if layout.num_blocks > 1 else None,
        ).sample
        losses = masked_nll(logits, target.flatten(1, 2), masked.flatten(1, 2)).double().sum(-1)
        found.append(losses.unflatten(1, masked.shape[1:3]).cpu())
    return torch.cat(found, dim=2) * masks.weights


def _draws(key: SampleKey, layout: Layout, draws: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Uniform numbers for each view, (N, T, D), evenly spread, and for each of its tokens, (N, T, D, B)."""
    shares, inner = [], []
    for row, (epoch, index) in enumerate(zip(key.epochs, key.indices, strict=True)):
        for draw in draws:
            source = generator(key.seed, "likelihood", epoch, index, draw)
            shares.append(strata(key, row, draw, layout.num_blocks, source))
            size = layout.num_blocks, layout.block_tokens
            inner.append(torch.rand(size, generator=source, dtype=torch.float64))
    rows = len(key.indices), len(draws)
    return tuple(torch.stack(drawn).unflatten(0, rows).transpose(1, 2) for drawn in (shares, inner))  # pyright: ignore[reportReturnType]
