"""Study of cheaper sampling at equal quality (sections 4.4, 5).

It compares solvers, numbers of steps, and the noise levels at which guidance is applied.
"""

import copy
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from ..diffusion.generate import Guidance
from ..diffusion.schedulers import Solver
from ..diffusion.timesteps import middle_levels, noise_levels
from ..evaluation.digits import digit_sets, score_digits
from ..evaluation.real_sets import RealSets
from ..evaluation.report import format_table
from ..generation.batches import Sampling
from ..model.layout import dims
from ..pipelines.image import ACDiTImagePipeline
from ..utils.errors import require
from ..utils.files import model_digest, whole
from .design import Design, Measurement, Rows
from .digit_quality import ACCURACY, COVERAGE, DISTANCE, SCORES, scores_of_digits
from .measurements import REAL, markdown_table


@dataclass(frozen=True)
class SamplingMethod:
    """One sampling method.

    Attributes:
        solver: the model's own solver, or UniPC.
        first: number of solver steps of the first block.
        last: number of solver steps of the last block; the steps of blocks between are evenly spaced.
        guided: noise levels with guidance, all or those in the middle.
    """

    solver: Literal["own", "unipc"]
    first: int
    last: int
    guided: Literal["all", "middle"] = "all"

    @property
    def steps(self) -> str:
        """Return the numbers of steps as text."""
        return str(self.first) if self.first == self.last else f"{self.first}..{self.last}"

    @property
    def name(self) -> str:
        """Return the full description of the method as text."""
        return f"{self.solver} {self.steps}" + ("" if self.guided == "all" else ", guidance in the middle")

    @property
    def group(self) -> str:
        """Return the name of the group of methods that are plotted alike."""
        if self.guided == "middle":
            return "guidance in the middle"
        if self.first != self.last:
            return "fewer steps for later blocks"
        return "own solver" if self.solver == "own" else "UniPC"


METHODS = (
    *(SamplingMethod("own", steps, steps) for steps in (25, 15, 10, 8, 6, 5, 4)),
    *(SamplingMethod("unipc", steps, steps) for steps in (10, 8, 6, 5, 4)),
    SamplingMethod("own", 10, 4),
    SamplingMethod("own", 8, 4),
    SamplingMethod("own", 10, 10, "middle"),
    SamplingMethod("own", 8, 8, "middle"),
)


def sampling_design(
    pipeline: ACDiTImagePipeline,
    model: Path,
    sampling: Sampling,
    *,
    samples: int,
    seeds: int,
    methods: Sequence[SamplingMethod] = METHODS,
) -> Design:
    """Return the design of the study: every method is measured with every seed.

    Args:
        pipeline: pipeline that generates digits.
        model: folder that the pipeline was loaded from.
        sampling: first seed, batch and guidance.
        samples: number of digits for each method and seed.
        seeds: number of seeds for each method.
        methods: sampling methods to compare.

    Raises:
        UserError: if the pipeline does not generate digits.
    """
    require("matplotlib", "examples")
    sets = digit_sets(pipeline, samples)
    setting = {
        "model": str(model.resolve()),
        "weights": model_digest(model),
        "samples": sets.count,
        "block": dims(pipeline.layout.block),
        "guidance": sampling.scale(pipeline),
        "first_seed": sampling.seed,
        "batch": sampling.batch,
        "dtype": str(pipeline.transformer.dtype).removeprefix("torch."),
        "device": str(pipeline.device),
        "threads": torch.get_num_threads(),
    }
    keys = (*SamplingMethod.__dataclass_fields__, "seed")
    # Methods are interleaved, so that slowdowns of the machine affect all equally.
    measurements = [
        Measurement(((*astuple(method), seed),), partial(_measure, pipeline, sets, sampling, method, seed))
        for seed in range(seeds)
        for method in methods
    ]
    report = partial(_report, tuple(methods), seeds)
    return Design("sampling", setting, keys, ("views", "seconds", *SCORES), measurements, report)


def _report(
    methods: Sequence[SamplingMethod], seeds: int, rows: Rows, folder: Path
) -> tuple[str, tuple[Path, ...]]:
    """Write the table and the plot, and return the table."""
    rows_by_method = {method: [rows[(*astuple(method), seed)] for seed in range(seeds)] for method in methods}
    summaries = {method: _summary(rows) for method, rows in rows_by_method.items()}
    lines = [{"method": method.name, **summary} for method, summary in summaries.items()]
    table, plot = folder / "sampling.md", folder / "sampling.png"
    _plot(summaries, rows_by_method[methods[0]][0][REAL], plot)
    with whole(table) as temporary_path:
        temporary_path.write_text("\n".join(["# Sampling methods", "", *markdown_table(lines), ""]))
    return format_table(lines), (table, plot)


def _measure(
    pipeline: ACDiTImagePipeline, sets: RealSets, sampling: Sampling, method: SamplingMethod, seed: int
) -> list[dict[str, Any]]:
    """Measure the scores of one method, its seconds, and the number of views through the network per digit.

    Each seed generates other samples.
    """
    own_scheduler, blocks = pipeline.scheduler, pipeline.layout.num_blocks
    steps = _steps(method, blocks)
    interval = middle_levels(own_scheduler, method.first) if method.guided == "middle" else None
    first = sampling.seed + seed * sets.count
    settings = replace(sampling, seed=first, steps=steps, guidance_interval=interval)
    if method.solver == "unipc":
        pipeline.scheduler = UniPCMultistepScheduler.from_config(own_scheduler.config)
    try:
        report = score_digits(pipeline, sets, settings)
    finally:
        pipeline.scheduler = own_scheduler
    guidance = Guidance(sampling.scale(pipeline), interval=interval)
    views = sum(
        1 if guidance.at(block, blocks, sigma) == 1 else 2
        for block, count in enumerate(steps)
        for sigma in _levels(own_scheduler, count)
    )
    measured = {"views": views, "seconds": report.settings["seconds"], **scores_of_digits(report)}
    return [{**asdict(method), "seed": seed, **measured}]


def _steps(method: SamplingMethod, blocks: int) -> list[int]:
    """Return the solver steps of every block, evenly spaced from the first block to the last."""
    decrease = (method.first - method.last) / max(1, blocks - 1)
    return [round(method.first - decrease * block) for block in range(blocks)]


def _levels(scheduler: Solver, steps: int) -> list[float]:
    """Return the noise levels of a block's steps."""
    solver = copy.deepcopy(scheduler)
    solver.set_timesteps(steps)
    return noise_levels(solver)


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | str]:
    """Return means over the seeds, the median of the seconds, and the standard error of the distance."""
    distances = [row[DISTANCE] for row in rows]
    return {
        "views": rows[0]["views"],
        "seconds": round(statistics.median(row["seconds"] for row in rows), 1),
        "frechet": round(statistics.mean(distances), 3),
        "error": round(statistics.stdev(distances) / len(distances) ** 0.5, 3),
        "accuracy": round(statistics.mean(row[ACCURACY] for row in rows), 4),
        "coverage": round(statistics.mean(row[COVERAGE] for row in rows), 4),
    }


def _plot(summaries: Mapping[SamplingMethod, dict[str, Any]], real: float, path: Path) -> None:
    """Plot the distance against the views through the network and against the seconds."""
    figures: Any = require("matplotlib.figure", "examples")
    ticker: Any = require("matplotlib.ticker", "examples")
    figure = figures.Figure(figsize=(12, 5), layout="constrained")
    groups: dict[str, list[SamplingMethod]] = {}
    for method in summaries:
        groups.setdefault(method.group, []).append(method)
    labels = {"views": "views through the network per digit", "seconds": "seconds for all digits"}
    for index, (column, label) in enumerate(labels.items()):
        axes = figure.add_subplot(1, 2, index + 1)
        for marker, (group, methods) in zip("osD^", groups.items(), strict=False):
            rows = [summaries[method] for method in methods]
            axes.errorbar(
                [row[column] for row in rows],
                [row["frechet"] for row in rows],
                yerr=[row["error"] for row in rows],
                fmt=f"{marker}-" if group in ("own solver", "UniPC") else marker,
                capsize=3,
                label=group,
            )
            for method, row in zip(methods, rows, strict=True):
                axes.annotate(
                    method.steps,
                    (row[column], row["frechet"]),
                    xytext=(4, 4),
                    textcoords="offset points",
                    fontsize=8,
                )
        axes.axhline(real, color="grey", linestyle=":", label="real digits")
        axes.set(xlabel=label, ylabel="Fréchet distance of classifier features", xscale="log", yscale="log")
        for axis in (axes.xaxis, axes.yaxis):  # plain numbers, and more labels where ticks are few
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.ScalarFormatter())
            axis.set_minor_formatter(ticker.LogFormatter(minor_thresholds=(1, 0.4)))
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=110)
