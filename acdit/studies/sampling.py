"""Study of cheaper sampling at equal quality (sections 4.4, 5).

It compares solvers, numbers of steps, and the noise levels at which guidance is applied.
"""

import copy
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from ..diffusion.generate import Guidance, middle_levels, noise_levels
from ..diffusion.schedulers import Solver
from ..evaluation.digits import Scorer
from ..evaluation.report import format_table
from ..generation.batches import Sampling, draw_images
from ..model.layout import dims
from ..pipelines.image import ACDiTImagePipeline
from ..utils.errors import require
from ..utils.files import only_process, whole
from ..utils.progress_bar import ProgressBar
from .measurements import Measurements

SCORES = ("judge_frechet_distance", "judge_frechet_distance_real", "label_accuracy", "judge_coverage")


@dataclass(frozen=True)
class Way:
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
    def kind(self) -> str:
        """Return the name of the group of methods that are plotted alike."""
        if self.guided == "middle":
            return "guidance in the middle"
        if self.first != self.last:
            return "fewer steps for later blocks"
        return "own solver" if self.solver == "own" else "UniPC"


WAYS = (
    *(Way("own", steps, steps) for steps in (25, 15, 10, 8, 6, 5, 4)),
    *(Way("unipc", steps, steps) for steps in (10, 8, 6, 5, 4)),
    Way("own", 10, 4),
    Way("own", 8, 4),
    Way("own", 10, 10, "middle"),
    Way("own", 8, 8, "middle"),
)


def study_sampling(
    pipeline: ACDiTImagePipeline,
    model: Path,
    folder: Path,
    sampling: Sampling,
    *,
    samples: int,
    seeds: int,
    ways: Sequence[Way] = WAYS,
) -> None:
    """Measure every method with every seed, print the table, and write the measurements and a plot.

    Args:
        pipeline: pipeline that generates digits.
        model: folder that the pipeline was loaded from.
        folder: output folder; the same study resumes from its content.
        sampling: first seed, batch and guidance.
        samples: number of digits for each method and seed.
        seeds: number of seeds for each method.
        ways: sampling methods to compare.

    Raises:
        UserError: if the pipeline does not generate digits, or the folder belongs to another study.
    """
    require("matplotlib", "examples")
    scorer = Scorer(pipeline, samples)
    setting = {
        "model": str(model.resolve()),
        "samples": len(scorer.labels),
        "block": dims(pipeline.layout.block),
        "guidance": sampling.scale(pipeline),
        "first_seed": sampling.seed,
        "batch": sampling.batch,
        "dtype": str(pipeline.transformer.dtype).removeprefix("torch."),
        "device": str(pipeline.device),
        "threads": torch.get_num_threads(),
    }
    with only_process(folder, "a study"):
        keys = (*Way.__dataclass_fields__, "seed")
        measured = Measurements(folder / "measurements.json", setting, keys, ("views", "seconds", *SCORES))
        # Methods are interleaved, so that slowdowns of the machine affect all equally.
        wanted = [(way, seed) for seed in range(seeds) for way in ways]
        for way, seed in ProgressBar(wanted, desc="study", unit="set", leave=False):
            if (*astuple(way), seed) not in measured.rows:
                measured.add({**asdict(way), "seed": seed, **_measure(pipeline, scorer, sampling, way, seed)})
        found = {way: [measured.rows[(*astuple(way), seed)] for seed in range(seeds)] for way in ways}
        summaries = {way: _summary(rows) for way, rows in found.items()}
        print(format_table([{"method": way.name, **summary} for way, summary in summaries.items()]))
        _plot(summaries, found[ways[0]][0]["judge_frechet_distance_real"], folder / "sampling.png")
    print(f"written: {folder / 'measurements.json'}, {folder / 'sampling.png'}")


def _measure(
    pipeline: ACDiTImagePipeline, scorer: Scorer, sampling: Sampling, way: Way, seed: int
) -> dict[str, float]:
    """Measure the scores of one method, its seconds, and the number of views through the network per digit.

    Each seed generates other samples.
    """
    own, blocks = pipeline.scheduler, pipeline.layout.num_blocks
    steps = _steps(way, blocks)
    interval = middle_levels(own, way.first) if way.guided == "middle" else None
    first = sampling.seed + seed * len(scorer.labels)
    varied = replace(sampling, seed=first, steps=steps, guidance_interval=interval)
    if way.solver == "unipc":
        pipeline.scheduler = UniPCMultistepScheduler.from_config(own.config)
    try:
        drawn = draw_images(pipeline, scorer.labels.tolist(), varied)
    finally:
        pipeline.scheduler = own
    scores = scorer.scores(drawn.images)
    guidance = Guidance(sampling.scale(pipeline), interval=interval)
    views = sum(
        1 if guidance.at(block, blocks, sigma) == 1 else 2
        for block, count in enumerate(steps)
        for sigma in _levels(own, count)
    )
    return {"views": views, "seconds": round(drawn.seconds, 2), **{name: scores[name] for name in SCORES}}


def _steps(way: Way, blocks: int) -> list[int]:
    """Return the solver steps of every block, evenly spaced from the first block to the last."""
    fall = (way.first - way.last) / max(1, blocks - 1)
    return [round(way.first - fall * block) for block in range(blocks)]


def _levels(scheduler: Solver, steps: int) -> list[float]:
    """Return the noise levels of a block's steps."""
    solver = copy.deepcopy(scheduler)
    solver.set_timesteps(steps)
    return noise_levels(solver)


def _summary(found: Sequence[dict[str, float]]) -> dict[str, float | str]:
    """Return means over the seeds, the median of the seconds, and the standard error of the distance."""
    distances = [each["judge_frechet_distance"] for each in found]
    return {
        "views": found[0]["views"],
        "seconds": round(statistics.median(each["seconds"] for each in found), 1),
        "frechet": round(statistics.mean(distances), 3),
        "error": round(statistics.stdev(distances) / len(distances) ** 0.5, 3),
        "accuracy": round(statistics.mean(each["label_accuracy"] for each in found), 4),
        "coverage": round(statistics.mean(each["judge_coverage"] for each in found), 4),
    }


def _plot(summaries: Mapping[Way, dict[str, Any]], real: float, path: Path) -> None:
    """Plot the distance against the views through the network and against the seconds."""
    figures: Any = require("matplotlib.figure", "examples")
    ticker: Any = require("matplotlib.ticker", "examples")
    figure = figures.Figure(figsize=(12, 5), layout="constrained")
    kinds: dict[str, list[Way]] = {}
    for way in summaries:
        kinds.setdefault(way.kind, []).append(way)
    labels = {"views": "views through the network per digit", "seconds": "seconds for all digits"}
    for place, (column, label) in enumerate(labels.items()):
        axes = figure.add_subplot(1, 2, place + 1)
        for marker, (kind, ways) in zip("osD^", kinds.items(), strict=False):
            rows = [summaries[way] for way in ways]
            axes.errorbar(
                [row[column] for row in rows],
                [row["frechet"] for row in rows],
                yerr=[row["error"] for row in rows],
                fmt=f"{marker}-" if kind in ("own solver", "UniPC") else marker,
                capsize=3,
                label=kind,
            )
            for way, row in zip(ways, rows, strict=True):
                axes.annotate(
                    way.steps,
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
    with whole(path) as aside:
        figure.savefig(aside, format="png", dpi=110)
