"""Study of block size and likelihood (Table 4).

Networks of equal size and budget are trained, one on each block size and one on all block sizes.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from ..data.config import DataConfig
from ..data.shakespeare import SHAKESPEARE
from ..data.texts import open_texts
from ..evaluation.likelihood import Scoring, likelihood
from ..evaluation.report import format_table
from ..model.layout import Layout
from ..pipelines.loading import load_pipeline
from ..pipelines.text import ACDiTTextPipeline
from ..utils.errors import require
from ..utils.files import whole
from ..utils.ranks import launched
from .design import Design, Measurement, Rows
from .measurements import markdown_table
from .run_store import RunSpec, StoredRun

LENGTH = 256
BLOCKS = (1, 4, 16, 64, LENGTH)
ALONE, TOGETHER = "alone", "all"  # training of a network: on one block size, or on all of them
NETWORK = {"num_layers": 4, "hidden_size": 128, "num_heads": 4}


def text_design(
    *,
    steps: int,
    batch: int,
    samples: int,
    first_seed: int,
    seeds: int,
    blocks: Sequence[int] = BLOCKS,
    network: Mapping[str, int] = NETWORK,
) -> Design:
    """Return the design of the study: every network is trained with every seed and scored on held-out works.

    Args:
        steps: number of training steps of each network.
        batch: number of sequences per training step, and per forward pass of the scoring.
        samples: number of held-out sequences to score.
        first_seed: first seed of the training runs.
        seeds: number of training runs of each network.
        blocks: block sizes in tokens.
        network: size of each network.
    """
    require("matplotlib", "examples")
    setting = {
        "network": dict(network),
        "tokens": LENGTH,
        "steps": steps,
        "batch": batch,
        "samples": samples,
        "first_seed": first_seed,
        "threads": torch.get_num_threads(),
    }
    all_seeds = range(first_seed, first_seed + seeds)
    measurements = []
    for seed in all_seeds:
        for trained, sizes in ((TOGETHER, tuple(blocks)), *((ALONE, (block,)) for block in blocks)):
            name = f"{trained if trained == TOGETHER else f'block-{sizes[0]}'}-{seed}"
            overrides = {
                "model": network,
                "data": {"tokens": LENGTH},
                "layout": {"blocks": [str(size) for size in sizes]},
                "training": {"steps": steps, "batch_size": batch},
                "validation": {"every": 0},
            }
            measurements.append(
                Measurement(
                    tuple((trained, block, seed) for block in sizes),
                    partial(_score_network, trained, sizes, seed, samples, batch),
                    (RunSpec("laptop-text", overrides, seed, name),),
                )
            )
    columns = ("bits_per_byte", "nats_per_token", "standard_error")
    report = partial(_report, tuple(blocks), all_seeds)
    return Design("text", setting, ("trained", "block", "seed"), columns, measurements, report)


def _report(
    blocks: Sequence[int], seeds: Sequence[int], rows: Rows, folder: Path
) -> tuple[str, tuple[Path, ...]]:
    """Write the table and the plot, and return the table with conclusions."""
    bits_per_byte = {
        (trained, block): [rows[trained, block, seed]["bits_per_byte"] for seed in seeds]
        for trained in (ALONE, TOGETHER)
        for block in blocks
    }
    lines = [_row(block, bits_per_byte) for block in blocks]
    verdicts = [
        describe_order(trained, {block: bits_per_byte[trained, block] for block in blocks})
        for trained in (ALONE, TOGETHER)
    ]
    table, plot = folder / "text.md", folder / "text.png"
    _plot(bits_per_byte, blocks, plot)
    page = [
        "# Likelihood by block size",
        "",
        *markdown_table(lines),
        "",
        *(f"- {text}" for text in verdicts),
        "",
    ]
    with whole(table) as temporary_path:
        temporary_path.write_text("\n".join(page))
    return "\n".join([format_table(lines), *verdicts]), (table, plot)


def describe_order(trained: str, bits_per_byte: Mapping[int, Sequence[float]]) -> str:
    """Describe whether smaller blocks give fewer bits per byte with every seed, for neighbouring block sizes.

    Args:
        trained: training of the networks, `ALONE` or `TOGETHER`, for the description.
        bits_per_byte: bits per byte of each seed, by block size.
    """
    sizes, parts = sorted(bits_per_byte), []
    for small, large in pairwise(sizes):
        gaps = [b - a for a, b in zip(bits_per_byte[small], bits_per_byte[large], strict=True)]
        verdict = "confirmed" if min(gaps) > 0 else "refuted" if max(gaps) < 0 else "unclear"
        parts.append(f"{small} below {large}: {verdict} ({statistics.mean(gaps):+.4f} +- {_error(gaps):.4f})")
    training = "trained on one block size" if trained == ALONE else "trained on all block sizes"
    return f"fewer bits per byte for smaller blocks with every seed, {training}: {'; '.join(parts)}"


def _score_network(
    trained: str, sizes: Sequence[int], seed: int, samples: int, batch: int, run: StoredRun
) -> list[dict[str, Any]]:
    """Score the held-out works, and return a row for each block size."""
    pipeline = load_pipeline(run.pipeline, kind=ACDiTTextPipeline).to(launched().device)
    data = open_texts(DataConfig(source=SHAKESPEARE), pipeline.tokenizer, LENGTH, held_out=True)
    scoring = Scoring(min(samples, len(data)), batch, draws=4, estimate="counts", seed=seed)
    rows = [likelihood(pipeline, data, Layout((LENGTH,), (size,)), scoring) for size in sizes]
    return [{"trained": trained, "seed": seed, **row} for row in rows]


def _row(block: int, bits_per_byte: Mapping[tuple[str, int], Sequence[float]]) -> dict[str, Any]:
    alone, together = bits_per_byte[ALONE, block], bits_per_byte[TOGETHER, block]
    return {
        "block": block,
        "bits/byte": statistics.mean(alone),
        "error": _error(alone),
        "trained on all": statistics.mean(together),
        "error ": _error(together),
    }


def _error(values: Sequence[float]) -> float:
    """Return the standard error of the mean of values."""
    return statistics.stdev(values) / math.sqrt(len(values))


def _plot(
    bits_per_byte: Mapping[tuple[str, int], Sequence[float]], blocks: Sequence[int], path: Path
) -> None:
    figures: Any = require("matplotlib.figure", "examples")
    figure = figures.Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    for trained, label in ((ALONE, "trained on this size only"), (TOGETHER, "one network trained on all")):
        values = [bits_per_byte[trained, block] for block in blocks]
        axes.errorbar(
            range(len(blocks)),
            [statistics.mean(bits) for bits in values],
            yerr=[_error(bits) for bits in values],
            fmt="o-",
            capsize=3,
            label=label,
        )
    axes.set_xticks(range(len(blocks)), [str(block) for block in blocks])
    axes.set(xlabel="tokens per block", ylabel="held-out bits per byte")
    axes.grid(alpha=0.3)
    axes.legend()
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=110)
