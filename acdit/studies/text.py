"""Study of block size and likelihood (Table 4).

Networks of equal size and budget are trained, one on each block size and one on all block sizes.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from ..training.loop import train
from ..training.recipes import load_recipe
from ..utils.errors import require
from ..utils.files import only_process, whole
from ..utils.ranks import launched
from .measurements import Measurements, StudyResult

LENGTH = 256
BLOCKS = (1, 4, 16, 64, LENGTH)
ALONE, TOGETHER = "alone", "all"  # training of a network: on one block size, or on all of them
NETWORK = {"num_layers": 4, "hidden_size": 128, "num_heads": 4}


@dataclass(frozen=True)
class Budget:
    """Budget for training and scoring each network of a study.

    Attributes:
        steps: number of training steps.
        batch: number of sequences per training step, and per forward pass of the scoring.
        samples: number of held-out sequences to score.
    """

    steps: int
    batch: int
    samples: int


def study_text(
    folder: Path, budget: Budget, *, first_seed: int, seeds: int, blocks: Sequence[int] = BLOCKS
) -> StudyResult | None:
    """Train every network with every seed, score the held-out works, and write the measurements and a plot.

    The same study resumes with networks that were not finished, and with those that were not scored.

    Args:
        folder: output folder.
        budget: budget of each network.
        first_seed: first seed of the training runs.
        seeds: number of training runs of each network.
        blocks: block sizes in tokens.

    Returns:
        A table of the block sizes with conclusions, and the files; None if a training run was stopped.
    """
    require("matplotlib", "examples")
    setting = {
        "network": NETWORK,
        "tokens": LENGTH,
        "steps": budget.steps,
        "batch": budget.batch,
        "samples": budget.samples,
        "first_seed": first_seed,
        "threads": torch.get_num_threads(),
    }
    with only_process(folder, "a study"):
        columns = ("bits_per_byte", "nats_per_token", "standard_error")
        measured = Measurements(folder / "measurements.json", setting, ("trained", "block", "seed"), columns)
        all_seeds = range(first_seed, first_seed + seeds)
        for seed in all_seeds:
            for trained, sizes in ((TOGETHER, tuple(blocks)), *((ALONE, (block,)) for block in blocks)):
                if all((trained, block, seed) in measured.rows for block in sizes):
                    continue
                run = _train_network(budget, folder, trained, sizes, seed)
                if run is None:
                    return None  # the run was stopped, and has reported it
                for row in _score_network(run, budget, sizes, seed):
                    measured.add({"trained": trained, "seed": seed, **row})
        bits_per_byte = {
            (trained, block): [measured.rows[trained, block, seed]["bits_per_byte"] for seed in all_seeds]
            for trained in (ALONE, TOGETHER)
            for block in blocks
        }
        lines = [format_table([_row(block, bits_per_byte) for block in blocks])]
        for trained in (ALONE, TOGETHER):
            lines.append(describe_order(trained, {block: bits_per_byte[trained, block] for block in blocks}))
        _plot(bits_per_byte, blocks, folder / "text.png")
    return StudyResult("\n".join(lines), (folder / "measurements.json", folder / "text.png"))


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


def _train_network(
    budget: Budget, folder: Path, trained: str, sizes: Sequence[int], seed: int
) -> Path | None:
    """Train a network and return the folder of its run, or None if the run was stopped before its end."""
    name = f"{trained if trained == TOGETHER else f'block-{sizes[0]}'}-{seed}"
    recipe = load_recipe(
        "laptop-text",
        name=name,
        out=str(folder / name),
        model=NETWORK,
        data={"tokens": LENGTH},
        layout={"blocks": [str(size) for size in sizes]},
        training={
            "steps": budget.steps,
            "batch_size": budget.batch,
            "seed": seed,
            "keep_checkpoints": 1,
        },
        validation={"every": 0},
    )
    return None if train(recipe) is None else recipe.folder


def _score_network(run: Path, budget: Budget, sizes: Sequence[int], seed: int) -> list[dict[str, Any]]:
    """Score the held-out works, and return a row for each block size."""
    pipeline = load_pipeline(run, kind=ACDiTTextPipeline).to(launched().device)
    data = open_texts(DataConfig(source=SHAKESPEARE), pipeline.tokenizer, LENGTH, held_out=True)
    scoring = Scoring(min(budget.samples, len(data)), budget.batch, draws=4, estimate="counts", seed=seed)
    return [likelihood(pipeline, data, Layout((LENGTH,), (size,)), scoring) for size in sizes]


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
