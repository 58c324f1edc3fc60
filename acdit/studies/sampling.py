"""Cheaper sampling at equal quality: solvers, numbers of steps, and where guidance acts (sections 4.4, 5)."""

import copy
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from tqdm import tqdm

from ..errors import UserError, require
from ..evaluation.digits import format_table
from ..files import only_process, whole
from ..layout import dims
from ..options import RunOptions
from ..pipelines.image import ACDiTImagePipeline
from ..pipelines.loading import pipeline_folder
from ..sampling import Guidance, noise_levels
from ..scoring import Scorer, draw
from .options import StudyOptions

SHARES = (0.2, 0.8)  # of the noise levels, between which guidance acts where it does not act at all of them


@dataclass(frozen=True)
class Way:
    """One way to sample.

    Attributes:
        solver: the model's own, or UniPC.
        first, last: solver steps of the first block and of the last, and evenly between.
        guided: at all noise levels, or at those between `SHARES`.
    """

    solver: Literal["own", "unipc"]
    first: int
    last: int
    guided: Literal["all", "middle"] = "all"

    @property
    def name(self) -> str:
        steps = str(self.first) if self.first == self.last else f"{self.first}..{self.last}"
        return f"{self.solver} {steps}" + ("" if self.guided == "all" else ", guidance in the middle")


WAYS = (
    *(Way("own", steps, steps) for steps in (25, 15, 10, 8, 6, 5, 4)),
    *(Way("unipc", steps, steps) for steps in (10, 8, 6, 5, 4)),
    Way("own", 10, 4),
    Way("own", 8, 4),
    Way("own", 10, 10, "middle"),
    Way("own", 8, 8, "middle"),
)


def study_sampling(pipeline: ACDiTImagePipeline, options: StudyOptions, ways: Sequence[Way] = WAYS) -> None:
    """Measure every way with every seed, print the table, and write figures and a picture.

    Raises:
        UserError: if the pipeline does not draw digits, or the folder is of another study.
    """
    require("matplotlib", "examples")
    folder = Path(options.out)
    scorer = Scorer(pipeline, options.samples)
    guidance = pipeline.config["guidance_scale"] if options.guidance is None else options.guidance
    setting = {
        "model": str(pipeline_folder(options.model).resolve()),
        "samples": len(scorer.labels),
        "block": dims(pipeline.layout.block),
        "guidance": guidance,
        "first_seed": options.seed,
        "batch": options.batch,
    }
    with only_process(folder, "a study"):
        measured = _measured(folder / "measurements.json", setting)
        wanted = [(way, seed) for seed in range(options.seeds) for way in ways]  # a slow hour is everybody's
        for way, seed in tqdm(wanted, desc="study", unit="set", leave=False):
            if (way, seed) not in measured:
                measured[way, seed] = _measure(pipeline, scorer, options, way, seed)
                rows = [{**asdict(way), "seed": seed, **found} for (way, seed), found in measured.items()]
                with whole(folder / "measurements.json") as aside:
                    aside.write_text(json.dumps({"setting": setting, "rows": rows}, indent=1) + "\n")
        table = [
            {"way": way.name, **_summary([measured[way, seed] for seed in range(options.seeds)])}
            for way in ways
        ]
        print(format_table(table))
        _plot(table, measured[ways[0], 0]["judge_frechet_distance_real"], folder / "sampling.png")
    print(f"written: {folder / 'measurements.json'}, {folder / 'sampling.png'}")


def _measured(path: Path, setting: dict[str, Any]) -> dict[tuple[Way, int], dict[str, float]]:
    """What an earlier run of the same study has found."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    if stored["setting"] != setting:
        raise UserError(f"{path} is of a study with other settings: name another --out, or remove it")
    names = Way.__dataclass_fields__
    return {
        (Way(**{name: row[name] for name in names}), row["seed"]): {
            name: value for name, value in row.items() if name not in names and name != "seed"
        }
        for row in stored["rows"]
    }


def _measure(
    pipeline: ACDiTImagePipeline, scorer: Scorer, options: StudyOptions, way: Way, seed: int
) -> dict[str, float]:
    """Scores of one way, seconds, and evaluations of the network for a digit; each seed draws others."""
    own, blocks = pipeline.scheduler, pipeline.layout.num_blocks
    steps = _steps(way, blocks)
    interval = _middle(own, way.first) if way.guided == "middle" else None
    if way.solver == "unipc":
        pipeline.scheduler = UniPCMultistepScheduler.from_config(own.config)
    try:
        images, _, _, seconds = draw(
            pipeline,
            scorer.labels.tolist(),
            RunOptions(
                seed=options.seed + seed * len(scorer.labels),
                batch=options.batch,
                guidance=options.guidance,
                steps=steps,
            ),
            guidance_interval=interval,
            output_type="pt",
        )
    finally:
        pipeline.scheduler = own
    scores = scorer.scores(images)
    kept = ("judge_frechet_distance", "judge_frechet_distance_real", "label_accuracy", "judge_coverage")
    guidance = pipeline.config["guidance_scale"] if options.guidance is None else options.guidance
    views = sum(
        1 if Guidance(guidance, interval=interval).at(block, blocks, sigma) == 1 else 2
        for block, count in enumerate(steps)
        for sigma in _levels(own, count)
    )
    return {"evaluations": views, "seconds": round(seconds, 2), **{name: scores[name] for name in kept}}


def _steps(way: Way, blocks: int) -> list[int]:
    """Solver steps of every block, evenly from the first's to the last's."""
    fall = (way.first - way.last) / max(1, blocks - 1)
    return [round(way.first - fall * block) for block in range(blocks)]


def _levels(scheduler: Any, steps: int) -> list[float]:
    """The noise levels of a block's steps."""
    solver = copy.deepcopy(scheduler)
    solver.set_timesteps(steps)
    return noise_levels(solver)


def _middle(scheduler: Any, steps: int) -> tuple[float, float]:
    """The lowest and the highest noise level at which guidance acts when it does so in the middle."""
    levels = sorted(_levels(scheduler, steps))
    first, last = (int(share * (steps - 1)) for share in SHARES)
    return levels[first], levels[last]


def _summary(found: Sequence[dict[str, float]]) -> dict[str, float | str]:
    """Means over the seeds, and the standard error of the distance."""
    distances = [each["judge_frechet_distance"] for each in found]
    return {
        "evaluations": found[0]["evaluations"],
        "seconds": round(statistics.median(each["seconds"] for each in found), 1),
        "frechet": round(statistics.mean(distances), 3),
        "error": round(statistics.stdev(distances) / len(distances) ** 0.5, 3),
        "accuracy": round(statistics.mean(each["label_accuracy"] for each in found), 4),
        "coverage": round(statistics.mean(each["judge_coverage"] for each in found), 4),
    }


def _plot(table: Sequence[dict[str, Any]], real: float, path: Path) -> None:
    """Distance against network evaluations and against seconds."""
    figures: Any = require("matplotlib.figure", "examples")
    figure = figures.Figure(figsize=(12, 5), layout="constrained")
    kinds = {
        "own solver": lambda name: name.startswith("own") and ".." not in name and "," not in name,
        "UniPC": lambda name: name.startswith("unipc"),
        "fewer steps for later blocks": lambda name: ".." in name,
        "guidance in the middle": lambda name: "," in name,
    }
    for place, (column, label) in enumerate(
        (("evaluations", "network evaluations for a digit"), ("seconds", "seconds for all digits"))
    ):
        axes = figure.add_subplot(1, 2, place + 1)
        for marker, (kind, belongs) in zip("osD^", kinds.items(), strict=True):
            rows = [row for row in table if belongs(row["way"])]
            axes.errorbar(
                [row[column] for row in rows],
                [row["frechet"] for row in rows],
                yerr=[row["error"] for row in rows],
                fmt=f"{marker}-" if kind in ("own solver", "UniPC") else marker,
                capsize=3,
                label=kind,
            )
            for row in rows:
                steps = row["way"].split(",")[0].split(" ")[1]
                axes.annotate(
                    steps,
                    (row[column], row["frechet"]),
                    xytext=(4, 4),
                    textcoords="offset points",
                    fontsize=8,
                )
        axes.axhline(real, color="grey", linestyle=":", label="real digits")
        axes.set(xlabel=label, ylabel="Fréchet distance of the judge's features", yscale="log")
        axes.set_xscale("log")
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    with whole(path) as aside:
        figure.savefig(aside, format="png", dpi=110)
