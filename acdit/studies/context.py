"""Study of quality against what blocks see of the past: with noise on it, or through a window."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .design import Design, Rows
from .digit_quality import ACCURACY, Arm, digit_design
from .digit_report import Line, Panel, arm_scores, digit_page
from .digit_runs import BUDGETS, DigitBudget
from .verdicts import Comparison, Expectation, Scores, compare, trend

NOISE = (0.0, 0.1, 0.3)  # standard deviations, of pixels in [-1, 1]
WINDOWS = (1, 2, 4, 8)
BLOCK = "1x1"  # many blocks, so that errors add up and a window leaves out most of the past


def context_design(*, budget: str, first_seed: int, seeds: int) -> Design:
    """Return the design of the study.

    Args:
        budget: name of a budget of `BUDGETS`.
        first_seed: first seed.
        seeds: number of seeds.
    """
    sizes = BUDGETS[budget]
    arms = context_arms(sizes)
    report = partial(_report, sizes, arms)
    return digit_design("context", sizes, arms, first_seed=first_seed, seeds=seeds, report=report)


def context_arms(budget: DigitBudget) -> list[Arm]:
    """Return an arm for each noise in training and in sampling, and for each window without noise."""
    everything = whole_window(budget)

    def arm(trained: float, sampled: float, window: int) -> Arm:
        noise = {"diffusion.context_noise": trained} if trained else {}
        return Arm(
            {"trained_noise": trained, "context_noise": sampled, "window": window},
            {"layout.blocks": [BLOCK]} | noise,
            window=None if window == everything else window,
            context_noise=sampled,
        )

    noised = [arm(trained, sampled, everything) for trained in NOISE for sampled in NOISE]
    return noised + [arm(0.0, 0.0, window) for window in WINDOWS]


def whole_window(budget: DigitBudget) -> int:
    """Return the number of blocks that the last block sees without a window."""
    return budget.layout(BLOCK).num_blocks - 1


def compare_contexts(budget: DigitBudget, rows: Rows) -> list[Comparison]:
    """Return the comparisons of the study."""
    everything = whole_window(budget)

    def scores(trained: float, sampled: float, window: int = everything) -> Scores:
        return arm_scores(rows, trained_noise=trained, context_noise=sampled, window=window)

    clean, lower = scores(0.0, 0.0), Expectation("lower")
    trained = [
        compare(f"trained with context noise {noise:g}, against none", scores(noise, 0.0), clean, lower)
        for noise in NOISE[1:]
    ]
    sampled = [
        compare(
            f"context noise {noise:g} in sampling too, against none at all",
            scores(noise, noise),
            clean,
            lower,
        )
        for noise in NOISE[1:]
    ]
    windows: dict[float, Scores] = {window: scores(0.0, 0.0, window) for window in (*WINDOWS, everything)}
    return [*trained, *sampled, trend("longer windows", windows, lower)]


def _report(budget: DigitBudget, arms: Sequence[Arm], rows: Rows, folder: Path) -> tuple[str, list[Path]]:
    """Write the page and the plot, and return the tables."""
    everything = whole_window(budget)
    by_noise = [
        Line(
            f"noise in training: {trained:g}",
            {
                noise: arm_scores(rows, trained_noise=trained, context_noise=noise, window=everything)
                for noise in NOISE
            },
        )
        for trained in NOISE
    ]
    by_window = Line(
        "trained without window",
        {
            window: arm_scores(rows, trained_noise=0.0, context_noise=0.0, window=window)
            for window in (*WINDOWS, everything)
        },
    )
    ticks = {window: str(window) for window in WINDOWS} | {everything: "all"}
    panels = [
        Panel("context noise", "standard deviation of the noise in sampling", by_noise),
        Panel("window", "previous blocks that a block sees", [by_window], ticks, log=True),
    ]
    learned = arm_scores(rows, ACCURACY, trained_noise=0.0, context_noise=0.0, window=everything)
    lead = (
        "Networks on blocks of a single token, trained with and without noise on the past; with noise in "
        "sampling, and with a window in sampling alone. Comparisons are of the Fréchet distance, where lower "
        "is better. FLOPs with a window are not counted."
    )
    return digit_page(
        "Noise on the past, and windows",
        lead,
        arms,
        compare_contexts(budget, rows),
        learned,
        panels,
        rows,
        folder,
        "context",
    )
