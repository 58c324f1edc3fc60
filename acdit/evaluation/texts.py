"""Likelihoods of unseen texts, their spread, and generative perplexity under an external language model."""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data.config import DataConfig
from ..data.shakespeare import SHAKESPEARE
from ..data.splits import held_out_split
from ..data.texts import WrappedTexts, open_texts
from ..diffusion.likelihood import nelbo, timed_masks
from ..diffusion.objective import SampleKey
from ..diffusion.text_likelihood import Estimate, text_nelbo
from ..generation.batches import Sampling, draw_texts
from ..metrics.entropy import token_entropy
from ..model.layout import Layout
from ..pipelines.text import ACDiTTextPipeline
from ..utils.errors import UserError
from ..utils.progress_bar import ProgressBar
from ..utils.randomness import generator
from .language_model import ExternalLanguageModel
from .report import format_table
from .training_data import describe_training_data, is_trained_on

GENERATED_TEXTS = 64  # number of texts for the external language model
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
    """

    sequences: int
    batch: int
    draws: int
    estimate: Estimate
    seed: int


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


def evaluate_texts(
    pipeline: ACDiTTextPipeline,
    blocks: Sequence[int],
    sampling: Sampling,
    *,
    source: str | None = None,
    split: str | None = None,
    text_column: str | None = None,
    sequences: int | None = None,
    draws: int = 4,
    estimate: Estimate = "times",
    times: bool = False,
    judge: str | None = None,
    texts: int = GENERATED_TEXTS,
) -> dict[str, Any]:
    """Measure perplexity and bits per byte by block size, and further scores on request.

    Args:
        pipeline: pipeline whose network is scored.
        blocks: block sizes in tokens, one for each row of scores.
        sampling: seed of the draws, sequences per forward pass, and settings for the generation of texts.
        source: source of the texts, see `open_texts`; None = the held-out works of Shakespeare.
        split: split of the source; None = `validation`, if the source has splits.
        text_column: text column of a Hugging Face data set.
        sequences: number of sequences to score; None = all.
        draws: number of estimates of each sequence's likelihood, where it is not exact.
        estimate: method of estimation, see `text_nelbo`.
        times: whether to measure the spread of a block's loss, by range of times.
        judge: name or path of a causal language model that scores generated texts; None = no such scores.
        texts: number of texts to generate for the language model.

    Raises:
        UserError: if there are no texts, a block does not fit, or the model's data set is not the default.
    """
    if source is None and not is_trained_on(pipeline, SHAKESPEARE):
        raise UserError(
            "without --data, only models of shakespeare can be scored, but "
            f"{describe_training_data(pipeline)}: give held-out texts of its data with --data"
        )
    length = pipeline.layout.num_tokens
    layouts = [Layout((length,), (block,)) for block in blocks]
    language_model = None if judge is None else ExternalLanguageModel(judge, pipeline.device)
    name = source or SHAKESPEARE
    config = DataConfig(source=name, split=split or held_out_split(name, texts=True), text_column=text_column)
    data = open_texts(config, pipeline.tokenizer, length, held_out=source is None)
    count = min(sequences or len(data), len(data))
    scoring = Scoring(count, sampling.batch, draws, estimate, sampling.seed)
    rows = [likelihood(pipeline, data, layout, scoring) for layout in layouts]
    name = source or f"{SHAKESPEARE}, held out"
    scores: dict[str, Any] = {"data": name, "sequences": count, "likelihood": rows}
    if times:
        scores["spread"] = [_spread(pipeline, data, layout, scoring) for layout in layouts]
    if language_model is not None:
        scores["drawn"] = [
            _score_generated(pipeline, language_model, layout, sampling, texts) for layout in layouts
        ]
    return scores


def text_table(scores: dict[str, Any]) -> str:
    """Format the scores as tables that fit the width of a terminal."""
    columns = ("block", "estimate", "nats_per_token", "standard_error", "perplexity", "bits_per_byte")
    tables = [format_table([{name: row[name] for name in columns} for row in scores["likelihood"]])]
    if "spread" in scores:
        columns = ("block", "low", "high", "deviation", "deviation_of_all")
        tables.append(format_table([{name: row[name] for name in columns} for row in scores["spread"]]))
    if "drawn" in scores:
        tables.append(format_table(scores["drawn"]))
    return "\n\n".join(tables)


def likelihood(
    pipeline: ACDiTTextPipeline, data: WrappedTexts, layout: Layout, scoring: Scoring
) -> dict[str, Any]:
    """Measure perplexity and bits per byte of texts in a layout, and the standard error of the estimate."""
    nats, variance, tokens, size, estimate = 0.0, 0.0, 0, 0.0, "exact"
    for sequences in _batches(data, scoring.sequences, scoring.batch, f"blocks of {layout.block_tokens}"):
        bounds = text_nelbo(
            pipeline.transformer,
            sequences.tokens.to(pipeline.device),
            sequences.lengths,
            layout,
            key=_key(sequences, scoring.sequences, scoring.seed),
            draws=scoring.draws,
            estimate=scoring.estimate,
            schedule=pipeline.scheduler.config["schedule"],
        )
        nats += bounds.values.sum().item()
        variance += bounds.variances.sum().item()  # NaN if there is a single draw
        tokens += int(sequences.lengths.sum())
        size += sum(map(data.bytes_of, sequences.indices))
        if not bounds.summed.all():
            timed = pipeline.transformer.config["time_conditioning"]  # such a network needs times
            estimate = "times" if timed else scoring.estimate
    return {
        "block": layout.block_tokens,
        "estimate": estimate,
        "draws": 1 if estimate == "exact" else scoring.draws,
        "tokens": tokens,
        "bytes": round(size),
        "nats_per_token": nats / tokens,
        "standard_error": None if math.isnan(variance) else math.sqrt(variance) / tokens,
        "perplexity": math.exp(nats / tokens),
        "bits_per_byte": nats / math.log(2) / size if size else None,  # end tokens have no bytes
    }


def _spread(
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


def _score_generated(
    pipeline: ACDiTTextPipeline,
    language_model: ExternalLanguageModel,
    layout: Layout,
    sampling: Sampling,
    count: int,
) -> dict[str, Any]:
    """Generate texts without prompts and score them with the language model."""
    rows = draw_texts(pipeline, count, sampling, block=layout.block_tokens)
    texts = [pipeline.tokenizer.decode(row.tolist()) for row in rows]
    return {
        "block": layout.block_tokens,
        "texts": count,
        "generative_perplexity": language_model.perplexity(texts),
        "token_entropy": token_entropy(rows),
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
