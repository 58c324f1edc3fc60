"""Quality and cost of generated digits, and the studies that compare them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from ..evaluation.digits import score_digits
from ..evaluation.real_sets import Geometry, RealSets, geometry_of, open_real_sets
from ..evaluation.report import Report
from ..generation.batches import Sampling
from ..model.generator_counts import generator_counts
from ..model.layout import parse_dims
from ..pipelines.image import ACDiTImagePipeline
from ..pipelines.loading import load_pipeline
from ..training.stored_weights import RAW, StoredWeights
from ..utils.errors import require
from ..utils.ranks import launched
from .design import Design, Measurement, Rows
from .digit_runs import DigitBudget, digit_run
from .measurements import REAL
from .run_store import RunSpec, StoredRun

DISTANCE, COVERAGE, ACCURACY = "frechet_distance", "coverage", "label_accuracy"
SCORES = (DISTANCE, REAL, COVERAGE, ACCURACY)
COST = ("network_calls", "sampling_flops", "sampling_seconds", "training_flops", "parameters")
COLUMNS = (*SCORES, *COST)
BATCH = 250  # digits that are drawn at once; the samples do not depend on it


@dataclass(frozen=True)
class Arm:
    """One setting of a study: how its networks are trained, and how digits are drawn from them.

    Attributes:
        key: values of the columns that identify the arm.
        overrides: values of the recipe that differ from the base, by dotted key.
        block: tokens of a block in sampling; None = as in training, or the first of several.
        trained: fraction of the training steps after which the network is measured.
        averaged: whether the moving average of the weights is measured, or the weights themselves.
        window: number of previous blocks that a block sees in sampling; None = all.
        context_noise: standard deviation of the noise on finished blocks in sampling.
    """

    key: Mapping[str, Any]
    overrides: Mapping[str, Any] = field(default_factory=dict)
    block: str | None = None
    trained: float = 1.0
    averaged: bool = True
    window: int | None = None
    context_noise: float = 0.0

    @property
    def run_name(self) -> str:
        """Return the name of the run: what its recipe changes."""
        words = [
            f"{key.rpartition('.')[2]}-{'+'.join(value) if isinstance(value, list) else value}"
            for key, value in self.overrides.items()
        ]
        return "-".join(words) or "base"


def digit_design(
    name: str,
    budget: DigitBudget,
    arms: Sequence[Arm],
    *,
    first_seed: int,
    seeds: int,
    report: Callable[[Rows, Path], tuple[str, Sequence[Path]]],
    split: str | None = None,
) -> Design:
    """Return the design of a study that measures every arm with every seed.

    The digits of a seed are drawn from the same noise in all arms, so that scores pair by seed.

    Args:
        name: name of the study.
        budget: data, network and sizes.
        arms: settings to compare; all have the same key columns.
        first_seed: first seed of training and sampling.
        seeds: number of seeds.
        report: see `Design`.
        split: part of the real digits that samples are compared with; None = the held-out part.
    """
    require("matplotlib", "examples")
    setting = {
        "budget": budget.name,
        "samples": budget.samples,
        "sampling_steps": budget.sampling_steps,
        "guidance": budget.guidance,
        "threads": torch.get_num_threads(),
    }
    if split is not None:  # earlier measurements, of the held-out part, do not name it
        setting["split"] = split
    specs: dict[tuple[str, int], RunSpec] = {}

    def run(arm: Arm, seed: int) -> RunSpec:
        made = digit_run(budget, seed, arm.overrides, arm.run_name)
        return specs.setdefault((repr(sorted(arm.overrides.items())), seed), made)

    measurements = [
        Measurement(
            ((*arm.key.values(), seed),), partial(measure_arm, budget, arm, seed, split), (run(arm, seed),)
        )
        for seed in range(first_seed, first_seed + seeds)
        for arm in arms
    ]
    return Design(name, setting, (*arms[0].key, "seed"), COLUMNS, measurements, report)


def measure_arm(
    budget: DigitBudget, arm: Arm, seed: int, split: str | None, run: StoredRun
) -> list[dict[str, Any]]:
    """Return the row of an arm and a seed: quality and cost of the digits of a finished run."""
    pipeline = load_pipeline(run.pipeline, kind=ACDiTImagePipeline).to(launched().device)
    pipeline.set_progress_bar_config(disable=True)
    step = round(arm.trained * run.steps)
    if step < run.steps or not arm.averaged:
        weights = StoredWeights(run.folder)
        weights.load(pipeline, step, weights.decay(step) if arm.averaged else RAW)
    training = None if run.flops is None else run.flops * step / run.steps
    parameters = sum(parameter.numel() for parameter in pipeline.transformer.parameters())
    sets = digit_reference(budget.recipe, geometry_of(pipeline), budget.samples, split)
    quality = measure_quality(pipeline, sets, budget, arm, seed)
    return [{**arm.key, "seed": seed, **quality, "training_flops": training, "parameters": parameters}]


@cache
def digit_reference(source: str, geometry: Geometry, count: int, split: str | None) -> RealSets:
    """Return the real digits with which digits are compared, read once.

    Args:
        source: name of the data.
        geometry: shape of a digit.
        count: number of digits that are compared; the held-out ones may be fewer.
        split: part of the digits; None = the held-out part.
    """
    return open_real_sets(source, geometry, split=split, count=count)


def scores_of_digits(report: Report) -> dict[str, float | None]:
    """Return the scores of generated digits, with the Fréchet distance of real ones, by column."""
    scores = {name: report.score(name) for name in (DISTANCE, COVERAGE, ACCURACY)}
    return {name: score.value for name, score in scores.items()} | {REAL: scores[DISTANCE].real}


def measure_quality(
    pipeline: ACDiTImagePipeline, sets: RealSets, budget: DigitBudget, arm: Arm, seed: int
) -> dict[str, Any]:
    """Return the scores of the digits that a pipeline draws, and the cost of a digit.

    Args:
        pipeline: pipeline of digits.
        sets: real digits, see `digit_reference`.
        budget: number of digits, solver steps and guidance.
        arm: how the digits are drawn.
        seed: seed of the samples: equal seeds draw from equal noise, other ones from other noise.
    """
    tokens = None if arm.block is None else parse_dims(arm.block)
    sampling = Sampling(
        seed=seed * budget.samples, batch=BATCH, steps=budget.sampling_steps, guidance=budget.guidance
    )
    report = score_digits(
        pipeline, sets, sampling, block=tokens, window=arm.window, context_noise=arm.context_noise
    )
    layout = pipeline.layout if tokens is None else pipeline.layout.with_block(tokens)
    steps = [budget.sampling_steps] * layout.num_blocks
    counts, guided = generator_counts(pipeline.transformer.config), budget.guidance != 1
    return {
        **scores_of_digits(report),
        "network_calls": report.settings["evaluations"],
        # of the whole past; those with a window are not counted
        "sampling_flops": None if arm.window else counts.sampling_flops(layout, steps, guided=guided),
        "sampling_seconds": report.settings["seconds"] / sets.count,
    }
