"""Likelihoods of texts under masked diffusion: the NELBO, exact or estimated from mask counts or from times.

Without time conditioning, the NELBO's integral over time has a closed form: a set of n of a block's B tokens
is masked with the total weight (n - 1)! (B - n)! / B!, for every schedule. Small blocks are therefore summed
over all their sets, a block of one token is exact autoregression, and larger blocks are estimated from drawn
sets.
"""

import math
from collections.abc import Sequence
from itertools import chain, combinations
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..model.layout import Layout
from ..model.transformer import ACDiTTransformer
from ..utils.randomness import generator
from .masked import Schedule, loss_weight, masked_fraction, masked_nll, strata
from .objective import TRAIN_STEPS, SampleKey

EXACT_TOKENS = 4  # blocks of up to this many tokens are summed over all their 2^B - 1 sets
MAX_LOGITS = 2**26  # maximum number of values in the logits of one call
Estimate = Literal["counts", "times"]


class Masks(NamedTuple):
    """Masks of the views to evaluate, D of each block, and the weights of the views.

    The weight of a view applies to the sum over its masked tokens.

    Attributes:
        masked: Masked tokens (N, T, D, B).
        weights: Weights of the views (N, T, D).
        hidden: Positions (N, T, 1, B) after the ends of texts: masked in every view, and never counted.
        times: Times (N, T, D) in [0, 1], for networks with time conditioning.
    """

    masked: Tensor
    weights: Tensor
    hidden: Tensor
    times: Tensor | None = None

    def of(self, texts: slice) -> "Masks":
        """Return the masks of the texts in a slice."""
        times = None if self.times is None else self.times[texts]
        return Masks(self.masked[texts], self.weights[texts], self.hidden[texts], times)


def all_masks(lengths: Tensor, layout: Layout) -> Masks:
    """Return every set of masked tokens with its exact weight; the sum over the sets is the NELBO.

    Args:
        lengths: Number of tokens of each text, (N,).
        layout: Layout of the blocks.
    """
    size, (real, hidden) = layout.block_tokens, _text_ends(lengths, layout)
    sets = list(chain.from_iterable(combinations(range(size), count) for count in range(1, size + 1)))
    masked = torch.zeros(len(sets), size, dtype=torch.bool)
    for row, positions in enumerate(sets):
        masked[row, list(positions)] = True
    # one row for each possible number of text tokens in a block
    weights = torch.zeros(size + 1, len(sets), dtype=torch.float64)
    for tokens in range(1, size + 1):
        for row, positions in enumerate(sets):
            if positions[-1] < tokens:
                weights[tokens, row] = 1 / (len(positions) * math.comb(tokens, len(positions)))
    return Masks(masked.expand(*real.shape, -1, -1), weights[real], hidden)


def counted_masks(key: SampleKey, lengths: Tensor, layout: Layout, draws: Sequence[int]) -> Masks:
    """Draw a number n of 1..B, spread evenly over blocks, and n random tokens to mask, with weight B / n.

    Each draw by itself is an unbiased estimate of finite variance: no time is cut off. If a text ends inside
    a block, B is the number of tokens before its end.
    """
    real, hidden = _text_ends(lengths, layout)
    uniform, orders = _draws(key, layout, draws)
    tokens = real[..., None]  # (N, T, 1)
    counts = torch.minimum((uniform * tokens).long() + 1, tokens)  # (N, T, D), 0 after the end
    ranks = orders.masked_fill(hidden, 2.0).argsort(-1).argsort(-1)
    return Masks(ranks < counts[..., None], tokens / counts.clamp(min=1).double(), hidden)


def timed_masks(
    key: SampleKey,
    lengths: Tensor,
    layout: Layout,
    draws: Sequence[int],
    schedule: Schedule = "log_linear",
    low: float = 1e-3,
) -> Masks:
    """Draw masks by the protocol of the block-diffusion papers.

    Each draw takes a time in [low, 1] and masks tokens with the probability at this time.
    """
    _, hidden = _text_ends(lengths, layout)
    uniform, thresholds = _draws(key, layout, draws)
    times = 1 - (1 - low) * uniform
    masked = (thresholds < masked_fraction(times, schedule)[..., None]) & ~hidden
    return Masks(masked, loss_weight(times, schedule), hidden, times)


def is_exact(model: ACDiTTransformer, layout: Layout, estimate: Estimate) -> bool:
    """Return whether `text_nelbo` sums over all sets of masked tokens of a block."""
    size = layout.block_tokens
    small = size == 1 or (estimate == "counts" and size <= EXACT_TOKENS)
    return small and not model.config["time_conditioning"]


def text_nelbo(
    model: ACDiTTransformer,
    tokens: Tensor,
    lengths: Tensor,
    layout: Layout,
    *,
    key: SampleKey,
    draws: int,
    estimate: Estimate = "counts",
    schedule: Schedule = "log_linear",
) -> Tensor:
    """Return draws of the NELBO of texts in nats, (N, D) in float64; a single column if it is exact.

    Args:
        model: Network over token ids, an `ACDiTTransformer`, with the mask as the last id.
        tokens: Token ids (N, L), padded with any ids after the ends of texts.
        lengths: Number of tokens of each text, (N,).
        layout: Layout of (L,).
        key: Key of the random draws.
        draws: Number of draws, D.
        estimate: `counts`, exact for blocks of up to 4 tokens, or `times`, the papers' protocol, which a
            network with time conditioning needs. Blocks of one token are exact without time conditioning.
        schedule: Noise schedule of the times.
    """
    exact = is_exact(model, layout, estimate)
    if exact:
        masks = all_masks(lengths, layout)
    elif estimate == "counts" and not model.config["time_conditioning"]:
        masks = counted_masks(key, lengths, layout, range(draws))
    else:
        masks = timed_masks(key, lengths, layout, range(draws), schedule)
    contributions = nelbo(model, layout.to_blocks(tokens), layout, masks).sum(1)  # (N, D)
    return contributions.sum(-1, keepdim=True) if exact else contributions


@torch.no_grad()
def nelbo(model: ACDiTTransformer, tokens: Tensor, layout: Layout, masks: Masks) -> Tensor:
    """Return the contribution of each view to the NELBO, in nats: (N, T, D), float64.

    A view is one masked copy of a block: N texts, T blocks, D views of each block, B tokens per block.

    The NELBO of a text is the sum over all its blocks and over the views of `all_masks`, or over those of one
    draw of `counted_masks` or `timed_masks`.

    Args:
        model: Network over token ids, an `ACDiTTransformer`, with the mask as the last id.
        tokens: Clean token ids (N, T, B).
        layout: Layout of the blocks.
        masks: Masks of the views; the views of a call share a pass over the clean tokens.
    """
    vocabulary = model.config["vocab_size"]
    max_texts = max(1, MAX_LOGITS // (tokens[0].numel() * vocabulary))  # texts in one call
    if len(tokens) > max_texts:
        parts = [slice(first, first + max_texts) for first in range(0, len(tokens), max_texts)]
        return torch.cat([nelbo(model, tokens[part], layout, masks.of(part)) for part in parts])
    max_views = max(1, MAX_LOGITS // (tokens.numel() * vocabulary))  # views of a block in one call
    contributions = []
    for first in range(0, masks.masked.shape[2], max_views):
        masked = masks.masked[:, :, first : first + max_views].to(tokens.device)  # (N, T, d, B)
        unseen = masked | masks.hidden.to(tokens.device)
        target = tokens[:, :, None].expand(masked.shape)
        views = tuple(block for block in range(layout.num_blocks) for _ in range(masked.shape[2]))
        times = None if masks.times is None else masks.times[:, :, first : first + max_views].flatten(1)
        logits = model(
            target.masked_fill(unseen, vocabulary - 1).flatten(1, 2),
            None if times is None else (TRAIN_STEPS * times).float().to(tokens.device),
            layout=layout,
            blocks=views,
            clean=tokens[:, :-1] if layout.num_blocks > 1 else None,
        ).sample
        losses = masked_nll(logits, target.flatten(1, 2), masked.flatten(1, 2)).double().sum(-1)
        contributions.append(losses.unflatten(1, masked.shape[1:3]).cpu())
    return torch.cat(contributions, dim=2) * masks.weights


def _text_ends(lengths: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Return the number of text tokens of each block, (N, T), and a mask of the others, (N, T, 1, B)."""
    size = layout.block_tokens
    real = (lengths[:, None] - size * torch.arange(layout.num_blocks)).clamp(0, size)
    return real, torch.arange(size) >= real[..., None, None]


def _draws(key: SampleKey, layout: Layout, draws: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Draw uniform numbers for views, (N, T, D), evenly spread, and for their tokens, (N, T, D, B)."""
    uniform, inner = [], []
    for row, (epoch, index) in enumerate(zip(key.epochs, key.indices, strict=True)):
        for draw in draws:
            source = generator(key.seed, "likelihood", epoch, index, draw)
            uniform.append(strata(key, row, draw, layout.num_blocks, source))
            size = layout.num_blocks, layout.block_tokens
            inner.append(torch.rand(size, generator=source, dtype=torch.float64))
    rows = len(key.indices), len(draws)
    return tuple(torch.stack(drawn).unflatten(0, rows).transpose(1, 2) for drawn in (uniform, inner))  # pyright: ignore[reportReturnType]
