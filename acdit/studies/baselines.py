"""Study of ACDiT against its baselines at equal size (Tables 1, 2)."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from .baseline_arms import BASELINES, DIT, RATES, baseline_arm
from .baseline_settings import CHOSEN, NOT_CHOSEN
from .design import Design, Rows
from .digit_quality import DISTANCE, Arm, digit_design
from .digit_report import Line, Panel, arm_scores, digit_page
from .digit_runs import BUDGETS, DigitBudget
from .finite_scores import finite


def baselines_design(*, budget: str, first_seed: int, seeds: int) -> Design:
    """Return the design of the study: every baseline is trained with the learning rate chosen for it.

    Args:
        budget: name of a budget of `BUDGETS`.
        first_seed: first seed.
        seeds: number of seeds.
    """
    sizes = BUDGETS[budget]
    rates = CHOSEN[sizes.recipe]
    arms = [baseline_arm(sizes, name, rates[name], {"arm": name}) for name in BASELINES]
    report = partial(_report, sizes, arms)
    return digit_design("baselines", sizes, arms, first_seed=first_seed, seeds=seeds, report=report)


def _report(budget: DigitBudget, arms: Sequence[Arm], rows: Rows, folder: Path) -> tuple[str, list[Path]]:
    """Write the page and the plot, and return the tables."""
    panels = [
        Panel(
            f"quality against {words}",
            label,
            [
                Line(name, {_mean(rows, name, column, unit): arm_scores(rows, DISTANCE, arm=name)}, "")
                for name in BASELINES
            ],
            log=True,
        )
        for words, label, column, unit in (
            ("network calls", "network calls of a digit", "network_calls", 1.0),
            ("FLOPs", "MFLOPs of a digit", "sampling_flops", 1e6),
            ("time", "milliseconds of a digit", "sampling_seconds", 1e-3),
        )
    ]
    lead = (
        f"Networks of equal width and depth, trained for equally many FLOPs; {DIT} has one block, and the "
        f"token-wise ones a block for each token. {_choice(budget.recipe)}"
    )
    return digit_page(budget, "baselines", "Baselines", lead, arms, panels, rows, folder)


def _choice(data: str) -> str:
    """Return a sentence on how the learning rates were chosen."""
    if data in NOT_CHOSEN:
        return "All have the learning rate of the other studies: the best one of each was not looked for."
    return (
        f"The learning rate of each is the best of {len(RATES[data])} on another seed and on training digits "
        "(`acdit study baselines-settings`)."
    )


def _mean(rows: Rows, name: str, column: str, unit: float) -> float:
    """Return the mean of a column over the runs of an arm that did not diverge; NaN if all did."""
    return fmean(finite(arm_scores(rows, column, arm=name).values()) or [math.nan]) / unit
