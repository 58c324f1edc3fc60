"""Study of video in more and in fewer blocks, with small moving digits (Fig. 4)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from ..data.moving_digits import SMALL, MovingDigits
from ..evaluation.comparison import Comparison as Features
from ..evaluation.comparison import score_drawn
from ..evaluation.generated_samples import GeneratedSamples, generated_clips
from ..evaluation.model_evaluation import ModelSettings, evaluate_model
from ..evaluation.moving_digits import PREFIX, moving_digit_sets
from ..evaluation.report import format_table
from ..generation.batches import Sampling
from ..pipelines.loading import load_pipeline
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.errors import require
from ..utils.files import whole
from ..utils.ranks import launched
from .claims_video import COUNTS, DISTANCE, RATIO, VIDEO
from .design import Design, Measurement, Rows
from .digit_quality import ACCURACY
from .digit_report import Line, Panel, draw_panels, mean_of
from .finite_scores import finite, with_interval
from .measurements import REAL, markdown_table
from .run_store import RunSpec, StoredRun
from .verdicts import count_words, scores_of

FRAMES = 8
ERROR = "squared_error"
COST = ("network_calls", "sampling_seconds", "training_flops")
COLUMNS = (RATIO, ERROR, DISTANCE, REAL, ACCURACY, *COST)


@dataclass(frozen=True)
class VideoBudget:
    """Sizes of the study.

    Attributes:
        name: name of the budget.
        network: values of `ModelConfig` in place of those of the recipe.
        steps: training steps.
        batch: clips per training step.
        clips: number of clips that are drawn and continued.
        sampling_steps: solver steps for each block.
        guidance: scale of guidance of drawn clips.
    """

    name: str
    network: Mapping[str, int]
    steps: int
    batch: int
    clips: int
    sampling_steps: int = 10
    guidance: float = 1.5


BUDGETS = {
    budget.name: budget
    for budget in (
        VideoBudget("full", {}, steps=4000, batch=16, clips=300),
        VideoBudget(
            "quick",
            {"num_layers": 1, "hidden_size": 32, "num_heads": 2},
            steps=2,
            batch=2,
            clips=8,
            sampling_steps=1,
        ),
    )
}


def video_design(*, budget: str, first_seed: int, seeds: int) -> Design:
    """Return the design of the study: a network for each number of blocks and seed.

    Args:
        budget: name of a budget of `BUDGETS`.
        first_seed: first seed.
        seeds: number of seeds.
    """
    require("matplotlib", "examples")
    sizes = BUDGETS[budget]
    setting = {
        "budget": budget,
        "clips": sizes.clips,
        "sampling_steps": sizes.sampling_steps,
        "guidance": sizes.guidance,
        "threads": torch.get_num_threads(),
    }
    measurements = [
        Measurement(
            ((count, seed),), partial(measure_video, sizes, count, seed), (video_run(sizes, count, seed),)
        )
        for seed in range(first_seed, first_seed + seeds)
        for count in COUNTS
    ]
    return Design("video", setting, ("blocks", "seed"), COLUMNS, measurements, _report)


def video_run(budget: VideoBudget, count: int, seed: int) -> RunSpec:
    """Return the training run of a network on clips of a number of blocks."""
    overrides = {
        **{f"model.{key}": value for key, value in budget.network.items()},
        "layout.blocks": [f"{FRAMES // count}x4x4"],
        "training.steps": budget.steps,
        "training.batch_size": budget.batch,
    }
    return RunSpec(SMALL.name, overrides, seed, f"video-{count}-{seed}")


def measure_video(budget: VideoBudget, count: int, seed: int, run: StoredRun) -> list[dict[str, Any]]:
    """Return the row of a number of blocks and a seed: errors of continued clips, scores of drawn ones.

    Clips are continued from their first frames, unless these are not whole blocks.
    """
    device = launched().device
    pipeline = load_pipeline(run.pipeline, kind=ACDiTVideoPipeline).to(device)
    pipeline.set_progress_bar_config(disable=True)
    sampling = Sampling(
        seed=seed * budget.clips, batch=100, steps=budget.sampling_steps, guidance=budget.guidance
    )

    def draw(labels: list[int | None]) -> GeneratedSamples:
        return generated_clips(pipeline, labels, sampling)

    sets = moving_digit_sets(SMALL, FRAMES, budget.clips)
    compared = Features(metrics=(DISTANCE, ACCURACY), batch=sampling.batch, device=device)
    report, samples = score_drawn(draw, pipeline, sets, compared, sampling, {})
    samples.close()
    errors: dict[str, float | None] = {RATIO: None, ERROR: None}
    if PREFIX % (FRAMES // count) == 0:
        held_out = MovingDigits(FRAMES, held_out=True, scene=SMALL)
        settings = ModelSettings(sampling, budget.clips, frames=FRAMES, prefix=PREFIX)
        continued = evaluate_model(pipeline, held_out, ("continuation",), settings)
        errors = {name: continued.score(name).value for name in errors}
    distance = report.score(DISTANCE)
    return [
        {
            "blocks": count,
            "seed": seed,
            **errors,
            DISTANCE: distance.value,
            REAL: distance.real,
            ACCURACY: report.score(ACCURACY).value,
            "network_calls": report.settings["evaluations"],
            "sampling_seconds": report.settings["seconds"] / sets.count,
            "training_flops": run.flops,
        }
    ]


def _report(rows: Rows, folder: Path) -> tuple[str, list[Path]]:
    """Write the page and the plot, and return the tables."""
    given = list(rows.values())
    judged = VIDEO.comparisons(given)
    table = []
    for count in COUNTS:
        own = [row for row in given if row["blocks"] == count]
        continued = PREFIX % (FRAMES // count) == 0
        ratios = [row[RATIO] for row in own] if continued else []
        table.append(
            {
                "blocks": str(count),
                "error / best guess": with_interval(ratios) if ratios else "",
                "Fréchet distance": with_interval([row[DISTANCE] for row in own]),
                "label accuracy, %": with_interval([100 * row[ACCURACY] for row in own]),
                "network calls": mean_of(own, "network_calls", 1),
                "ms": mean_of(own, "sampling_seconds", 1e-3),
                "training TFLOPs": mean_of(own, "training_flops", 1e12),
            }
        )
    compared = [comparison.row() for comparison in judged]
    note = (
        f"Clips of {FRAMES} frames of 16x16 pixels, in blocks of whole frames; equal networks and training "
        f"steps. Errors are squared errors of clips that bounce, continued from {PREFIX} frames, over those "
        "of the best trivial guess. Fréchet distances of drawn clips are on features of a small network that "
        f"was fitted to such clips; real training clips have {mean_of(given, REAL, 1)}. Means with 95% t "
        "intervals over the seeds. Milliseconds are wall time of a machine that may have been busy with "
        "other work."
    )
    words = count_words(judged)
    page, plot = folder / "video.md", folder / "video.png"
    by_count = {count: scores_of(given, DISTANCE, blocks=count) for count in COUNTS}
    ticks = {count: str(count) for count in COUNTS}
    panel = Panel("drawn clips", "number of blocks", [Line("small moving digits", by_count)], ticks, log=True)
    draw_panels([panel], fmean(finite(row[REAL] for row in given) or [math.nan]), plot)
    lines = [
        "# Video in more and in fewer blocks",
        "",
        note,
        "",
        *markdown_table(table),
        "",
        words,
        "",
        *markdown_table(compared),
        "",
        f"![Fréchet distance by number of blocks]({plot.name})",
        "",
    ]
    with whole(page) as temporary_path:
        temporary_path.write_text("\n".join(lines))
    return "\n\n".join([format_table(table), words, format_table(compared)]), [page, plot]
