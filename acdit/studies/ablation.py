"""Study of what is left out: RoPE-ND, and the clean past (Fig. 6b)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .design import Design, Rows
from .digit_quality import Arm, digit_design
from .digit_report import Line, Panel, arm_scores, digit_page
from .digit_runs import BUDGETS, DigitBudget

REFERENCE = "RoPE-ND, clean past"
ARMS: dict[str, dict[str, Any]] = {
    REFERENCE: {},
    "1-D RoPE": {"model.positions": "rope_1d"},
    "absolute positions": {"model.positions": "absolute"},
    "no positions": {"model.positions": "none"},
    "noised past": {"model.context": "noised"},
}


def ablation_design(*, budget: str, first_seed: int, seeds: int) -> Design:
    """Return the design of the study.

    Args:
        budget: name of a budget of `BUDGETS`.
        first_seed: first seed.
        seeds: number of seeds.
    """
    arms = [Arm({"arm": name}, overrides) for name, overrides in ARMS.items()]
    sizes = BUDGETS[budget]
    report = partial(_report, sizes, arms)
    return digit_design("ablation", sizes, arms, first_seed=first_seed, seeds=seeds, report=report)


def _report(budget: DigitBudget, arms: Sequence[Arm], rows: Rows, folder: Path) -> tuple[str, list[Path]]:
    """Write the page and the plot, and return the tables."""
    line = Line("network", {position: arm_scores(rows, arm=arm) for position, arm in enumerate(ARMS)}, "")
    ticks: dict[float, str] = {
        position: arm.replace(", ", ",\n").replace(" pos", "\npos") for position, arm in enumerate(ARMS)
    }
    panel = Panel("positions and past", "", [line], ticks)
    lead = "Networks of equal size and equally many training steps."
    return digit_page(budget, "ablation", "Positions and past", lead, arms, [panel], rows, folder)
