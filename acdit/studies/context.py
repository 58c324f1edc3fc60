"""Study of quality against what blocks see of the past: with noise on it, or through a window."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .design import Design, Rows
from .digit_quality import Arm, digit_design
from .digit_report import Line, Panel, arm_scores, digit_page
from .digit_runs import BUDGETS, DigitBudget

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
    lead = (
        "Networks on blocks of a single token, trained with and without noise on the past; with noise in "
        "sampling, and with a window in sampling alone. FLOPs with a window are not counted."
    )
    return digit_page(budget, "context", "Noise on the past, and windows", lead, arms, panels, rows, folder)
