"""Study of ACDiT against its baselines at equal size (Tables 1, 2)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .baseline_arms import BASELINES, DIT, RATES, baseline_arm
from .baseline_settings import CHOSEN
from .design import Design, Rows
from .digit_quality import DISTANCE, Arm, digit_design
from .digit_report import Line, Panel, arm_scores, digit_page
from .digit_runs import BUDGETS, DigitBudget


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
        f"token-wise ones a block for each token. The learning rate of each is the best of "
        f"{len(RATES[budget.recipe])} on another seed and on training digits (`acdit study "
        "baselines-settings`)."
    )
    return digit_page(budget, "baselines", "Baselines", lead, arms, panels, rows, folder)


def _mean(rows: Rows, name: str, column: str, unit: float) -> float:
    scores = arm_scores(rows, column, arm=name)
    return sum(scores.values()) / len(scores) / unit
