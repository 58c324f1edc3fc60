"""The NELBO of blocks of tokens under masked diffusion, exact or estimated from mask counts or from times.

Without time conditioning, the NELBO's integral over time has a closed form: a set of n of a block's B tokens
is masked with the total weight (n - 1)! (B - n)! / B!, for every schedule. Small blocks are therefore summed
over all their sets, a block of one token is exact autoregression, and larger blocks are estimated from drawn
sets. `text_likelihood` computes the likelihoods of texts from it.
"""

import math
from collections.abc import Sequence
from itertools import chain, combinations
from typing import NamedTuple

import torch
from torch import Tensor

from ..model.layout import Layout
from ..model.transformer import ACDiTTransformer
from ..utils.errors import UserError
from ..utils.finite import is_finite
from ..utils.randomness import generator
from .masked import Schedule, loss_weight, masked_fraction, masked_nll, masks_of_counts, strata
from .objective import TRAIN_STEPS, SampleKey

MAX_LOGITS = 2**26  # maximum number of values in the logits of one call


class Masks(NamedTuple):
    """Masks of the views to evaluate, D of each block, and the weights of the views.

    The weight of a view applies to the sum over its masked tokens. The T blocks are the last of a layout.

    Attributes:
        masked: Masked tokens (N, T, D, B).
        weights: Weights of the views (N, T, D).
        hidden: Positions (N, T, 1, B) after the ends of texts: masked in every view, and never counted.
        times: Times (N, T, D) in [0, 1], for networks with time conditioning.
        orders: Numbers (N, T, D, B) in whose falling order the tokens of a block are revealed; None = all.
        cuts: Numbers (N, T, D) at which the views are: tokens with greater ones have been revealed.
        uniform: Numbers (N, D, B) in [0, 1) for draws of tokens of the last block; None = no draws.
        tails: Tokens (N, D, B) that views of the last block show at its hidden positions; None = masks.
    """

    masked: Tensor
    weights: Tensor
    hidden: Tensor
    times: Tensor | None = None
    orders: Tensor | None = None
    cuts: Tensor | None = None
    uniform: Tensor | None = None
    tails: Tensor | None = None

    def of(self, texts: slice) -> "Masks":
        """Return the masks of the texts in a slice."""
        return Masks(*(None if part is None else part[texts] for part in self))  # pyright: ignore[reportArgumentType]


def all_masks(lengths: Tensor, layout: Layout, starts: Tensor | None = None) -> Masks:
    """Return every set of masked tokens with its exact weight; the sum over the sets is the NELBO.

    Args:
        lengths: Number of tokens of each text, (N,).
        layout: Layout of the blocks.
        starts: Number of given tokens at the beginning of each text, (N,), which are visible and not scored;
            None = 0. Views are of the blocks from the first scored token on.
    """
    size, (scored, hidden) = layout.block_tokens, scored_tokens(lengths, layout, starts)
    sets = list(chain.from_iterable(combinations(range(size), count) for count in range(1, size + 1)))
    masked = torch.zeros(len(sets), size, dtype=torch.bool)
    for row, positions in enumerate(sets):
        masked[row, list(positions)] = True
    # one row for each possible number of scored tokens in a block
    weights = torch.zeros(size + 1, len(sets), dtype=torch.float64)
    for tokens in range(1, size + 1):
        for row, positions in enumerate(sets):
            if len(positions) <= tokens:
                weights[tokens, row] = 1 / (len(positions) * math.comb(tokens, len(positions)))
    outside = (masked & ~scored).any(-1)  # (N, T, D)
    weights = weights[scored.sum(-1).squeeze(-1)].masked_fill(outside, 0.0)
    return Masks(masked.expand(*weights.shape[:2], -1, -1), weights, hidden)


def counted_masks(
    key: SampleKey, lengths: Tensor, layout: Layout, draws: Sequence[int], starts: Tensor | None = None
) -> Masks:
    """Draw a number n of 1..B, spread evenly over blocks, and n random tokens to mask, with weight B / n.

    Each draw by itself is an unbiased estimate of finite variance: no time is cut off. B is the number of
    scored tokens of a block; see `all_masks`.
    """
    scored, hidden = scored_tokens(lengths, layout, starts)
    uniform, orders, tails = _draws(key, scored.shape[1], layout.block_tokens, draws)
    masked, counts = masks_of_counts(uniform, orders, scored)  # (N, T, D, B), (N, T, D)
    cuts = orders.masked_fill(~masked, -1.0).amax(-1)  # of the token that is revealed next
    orders = orders.masked_fill(~(scored | hidden), 2.0)  # given tokens come first
    return Masks(masked, scored.sum(-1) / counts.clamp(min=1).double(), hidden, None, orders, cuts, tails)


def timed_masks(
    key: SampleKey,
    lengths: Tensor,
    layout: Layout,
    draws: Sequence[int],
    schedule: Schedule = "log_linear",
    low: float = 1e-3,
    starts: Tensor | None = None,
) -> Masks:
    """Draw masks by the protocol of the block-diffusion papers.

    Each draw takes a time in [low, 1] and masks tokens with the probability at this time.
    """
    scored, hidden = scored_tokens(lengths, layout, starts)
    uniform, thresholds, tails = _draws(key, scored.shape[1], layout.block_tokens, draws)
    times = 1 - (1 - low) * uniform
    cuts = masked_fraction(times, schedule)
    masked = (thresholds < cuts[..., None]) & scored
    thresholds = thresholds.masked_fill(~(scored | hidden), 2.0)  # given tokens come first
    return Masks(masked, loss_weight(times, schedule), hidden, times, thresholds, cuts, tails)


@torch.no_grad()
def nelbo(
    model: ACDiTTransformer, tokens: Tensor, layout: Layout, masks: Masks, labels: Tensor | None = None
) -> Tensor:
    """Return the contribution of each view to the NELBO, in nats: (N, T, D), float64.

    A view is one masked copy of a block: N texts, T blocks, D views of each block, B tokens per block.

    The NELBO of a text is the sum over all its blocks and over the views of `all_masks`, or over those of one
    draw of `counted_masks` or `timed_masks`.

    Args:
        model: Network over token ids, an `ACDiTTransformer`, with the mask as the last id.
        tokens: Clean token ids (N, all blocks of the layout, B).
        layout: Layout of the blocks.
        masks: Masks of the views; the views of a call share a pass over the clean tokens.
        labels: Classes of the D views of each block, (D,); None = no class.

    Raises:
        UserError: If a contribution is not finite.
    """
    vocabulary, scored_blocks = model.config["vocab_size"], masks.masked.shape[1]
    values = scored_blocks * layout.block_tokens * vocabulary  # logits of one view of each block of a text
    if len(parts := calls(len(tokens), values)) > 1:
        return torch.cat([nelbo(model, tokens[part], layout, masks.of(part), labels) for part in parts])
    contributions, scored = [], tokens[:, -scored_blocks:]
    for part in calls(masks.masked.shape[2], len(tokens) * values):
        masked = masks.masked[:, :, part].to(tokens.device)  # (N, T, d, B)
        unseen = masked | masks.hidden.to(tokens.device)
        target = scored[:, :, None].expand(masked.shape)
        shown = target.masked_fill(unseen, vocabulary - 1)
        if masks.tails is not None:
            hidden = masks.hidden[:, -1].to(tokens.device)  # (N, 1, B)
            shown[:, -1] = torch.where(hidden, masks.tails[:, part].to(tokens.device), shown[:, -1])
        first = layout.num_blocks - scored_blocks
        views = tuple(block for block in range(first, layout.num_blocks) for _ in range(masked.shape[2]))
        times = None if masks.times is None else masks.times[:, :, part].flatten(1)
        classes = None if labels is None else labels[part].repeat(scored_blocks).to(tokens.device)  # (M,)
        logits = model(
            shown.flatten(1, 2),
            None if times is None else (TRAIN_STEPS * times).float().to(tokens.device),
            layout=layout,
            blocks=views,
            clean=tokens[:, :-1] if layout.num_blocks > 1 else None,
            labels=None if classes is None else classes.expand(len(tokens), -1),
        ).sample
        losses = masked_nll(logits, target.flatten(1, 2), masked.flatten(1, 2)).double().sum(-1)
        contributions.append(losses.unflatten(1, masked.shape[1:3]).cpu())
    return checked(torch.cat(contributions, dim=2) * masks.weights)


def checked(likelihoods: Tensor) -> Tensor:
    """Return likelihoods, after checking that they are finite."""
    if not is_finite(likelihoods):
        raise UserError("the likelihoods are not finite: use float32, or a model whose weights are sound")
    return likelihoods


def calls(count: int, values: int) -> list[slice]:
    """Divide texts or views, with this number of logits each, into the parts of calls of the network."""
    size = max(1, MAX_LOGITS // values)
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def scored_tokens(lengths: Tensor, layout: Layout, starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return masks (N, T, 1, B) of the tokens that are scored, and of the positions after the ends of texts.

    The T blocks are those from the first scored token on; see `all_masks` for the arguments.
    """
    size = layout.block_tokens
    first = torch.zeros_like(lengths) if starts is None else starts
    begin = int(first.min()) // size
    positions = torch.arange(begin * size, layout.num_tokens).view(-1, 1, size)  # (T, 1, B)
    hidden = positions >= lengths.view(-1, 1, 1, 1)
    return (positions >= first.view(-1, 1, 1, 1)) & ~hidden, hidden


def _draws(key: SampleKey, blocks: int, size: int, draws: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Draw uniform numbers for views, (N, T, D), evenly spread, for their tokens, and for tails.

    Those of tokens are (N, T, D, B), those of tails (N, D, B).
    """
    uniform, inner, tails = [], [], []
    for row, (epoch, index) in enumerate(zip(key.epochs, key.indices, strict=True)):
        for draw in draws:
            source = generator(key.seed, "likelihood", epoch, index, draw)
            uniform.append(strata(key, row, draw, blocks, source))
            inner.append(torch.rand(blocks, size, generator=source, dtype=torch.float64))
            tails.append(torch.rand(size, generator=source, dtype=torch.float64))
    rows = len(key.indices), len(draws)
    views, tokens, drawn = (torch.stack(part).unflatten(0, rows) for part in (uniform, inner, tails))
    return views.transpose(1, 2), tokens.transpose(1, 2), drawn
