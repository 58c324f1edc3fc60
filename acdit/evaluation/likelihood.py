"""Likelihoods of texts under a model of text, and the spread of the loss of a block."""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data.texts import WrappedTexts
from ..diffusion.likelihood import nelbo, timed_masks
from ..diffusion.objective import SampleKey
from ..diffusion.ordered_likelihood import text_bounds
from ..diffusion.orders import RANDOM, Order
from ..diffusion.text_likelihood import Estimate
from ..metrics.entropy import perplexity
from ..model.layout import Layout
from ..pipelines.text import ACDiTTextPipeline
from ..utils.errors import UserError
from ..utils.progress_bar import ProgressBar
from ..utils.randomness import generator

SPREAD_DRAWS = 32  # number of times per block, for the spread of the estimates
WIDTH = 0.5  # minimum width of the ranges of times that are compared
GRID = 0.05  # spacing of the ends of these ranges


class Scoring(NamedTuple):
    """Settings of a likelihood measurement.

    Attributes:
        sequences: number of sequences, the first of the texts in a fixed shuffled order.
        batch: number of sequences per forward pass.
        draws: number of estimates per sequence, where the likelihood is not exact.
        estimate: method of estimation, see `text_nelbo`.
        seed: seed of the draws.
        order: order in which the tokens of a block are revealed, see `text_bounds`.
    """

    sequences: int
    batch: int
    draws: int
    estimate: Estimate
    seed: int
    order: Order = RANDOM


class Batch(NamedTuple):
    """Batch of sequences.

    Attributes:
        tokens: token ids (N, L).
        lengths: number of text tokens of each sequence.
        indices: indices of the sequences in the data.
        positions: positions of the sequences in the shuffled order.
    """

    tokens: Tensor
    lengths: Tensor
    indices: list[int]
    positions: range


def likelihood(
    pipeline: ACDiTTextPipeline, data: WrappedTexts, layout: Layout, scoring: Scoring
) -> dict[str, Any]:
    """Measure perplexity and bits per byte of texts in a layout, and the standard error of the estimate.

    The standard error of an order that is not random is None where nothing is estimated.
    """
    nats, variance, tokens, size, estimate = 0.0, 0.0, 0, 0.0, "exact"
    for sequences in _batches(data, scoring.sequences, scoring.batch, f"blocks of {layout.block_tokens}"):
        bounds = text_bounds(
            pipeline.transformer,
            sequences.tokens.to(pipeline.device),
            sequences.lengths,
            layout,
            key=_key(sequences, scoring.sequences, scoring.seed),
            draws=scoring.draws,
            order=scoring.order,
            estimate=scoring.estimate,
            schedule=pipeline.scheduler.config["schedule"],
        )
        nats += bounds.values.sum().item()
        variance += bounds.variances.sum().item()  # NaN if there is a single draw
        tokens += int(sequences.lengths.sum())
        size += sum(map(data.bytes_of, sequences.indices))
        if not bounds.summed.all():
            timed = pipeline.transformer.config["time_conditioning"]  # such a network needs times
            drawn = "times" if timed else scoring.estimate
            estimate = drawn if scoring.order == RANDOM else "tails"
    has_error = not math.isnan(variance) and (scoring.order == RANDOM or estimate != "exact")
    return {
        "block": layout.block_tokens,
        "estimate": estimate,
        "draws": 1 if estimate == "exact" else scoring.draws,
        "tokens": tokens,
        "bytes": round(size),
        "nats_per_token": nats / tokens,
        "standard_error": math.sqrt(variance) / tokens if has_error else None,
        "perplexity": perplexity(nats / tokens),
        "bits_per_byte": nats / math.log(2) / size if size else None,  # end tokens have no bytes
    }


def spread(
    pipeline: ACDiTTextPipeline, data: WrappedTexts, layout: Layout, scoring: Scoring
) -> dict[str, Any]:
    """Measure the spread of a block's part of the NELBO, per token, when one time is drawn for the block.

    The spread is the standard deviation. The result also names the range of times with the smallest spread
    (clipped schedules of arXiv 2503.09573).
    """
    times, values = [], []
    count, batch = scoring.sequences, scoring.batch
    for sequences in _batches(data, min(count, batch), batch, "spread"):
        key = _key(sequences, count, scoring.seed)
        schedule = pipeline.scheduler.config["schedule"]
        masks = timed_masks(key, sequences.lengths, layout, range(SPREAD_DRAWS), schedule)
        blocks = layout.to_blocks(sequences.tokens.to(pipeline.device))
        losses = nelbo(pipeline.transformer, blocks, layout, masks) / layout.block_tokens  # (N, T, D)
        complete = ~masks.hidden.any(-1).expand(losses.shape)  # blocks in which no text ends
        assert masks.times is not None
        times.append(masks.times[complete])
        values.append(losses[complete])
    time, value = torch.cat(times), torch.cat(values)
    if not len(value):
        raise UserError(f"--times needs texts of at least one full block, {layout.block_tokens} tokens")
    steps = round(1 / GRID)
    ranges = [
        (low * GRID, high * GRID)
        for low, high in product(range(steps + 1), repeat=2)
        if high * GRID - low * GRID >= WIDTH - 1e-9
    ]
    deviations = {bounds: value[(time >= bounds[0]) & (time <= bounds[1])].std().item() for bounds in ranges}
    (low, high), smallest = min(deviations.items(), key=lambda item: item[1])
    return {
        "block": layout.block_tokens,
        "low": round(max(low, 1e-3), 3),
        "high": round(high, 3),
        "deviation": smallest,
        "deviation_of_all": deviations[0.0, 1.0],
        "ranges": [
            {"low": low, "high": high, "deviation": deviation}
            for (low, high), deviation in deviations.items()
        ],
    }


def _batches(data: WrappedTexts, count: int, batch: int, description: str) -> Iterator[Batch]:
    """Yield batches of sequences from all parts of the texts, with a progress bar."""
    order = torch.randperm(len(data), generator=generator("texts to score"))[:count].tolist()
    for first in ProgressBar(range(0, count, batch), unit="batch", desc=description, delay=3, leave=False):
        positions = range(first, min(first + batch, count))
        indices = order[positions.start : positions.stop]
        tokens = torch.stack([data.decode(index) for index in indices])
        yield Batch(tokens, data.counts[indices], indices, positions)


def _key(sequences: Batch, count: int, seed: int) -> SampleKey:
    """Return the key of a batch's draws, which spreads times evenly over all sequences that are scored."""
    return SampleKey(seed, [0] * len(sequences.indices), sequences.indices, 0, sequences.positions, count)
