"""Study that chooses the learning rate of each baseline, on a seed and on digits of its own."""

import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..evaluation.report import format_table
from ..utils.files import whole
from .baseline_arms import BASELINES, RATES, baseline_arm
from .design import Design, Rows
from .digit_quality import DISTANCE, Arm, digit_design
from .digit_report import quality_table
from .digit_runs import BUDGETS, DigitBudget
from .measurements import markdown_table

TRIED_SEED = 1000  # added to the first seed: the runs that are reported have other seeds
COMPARED = "train"  # part of the digits that samples are compared with, which the study of baselines is not


def baseline_choice_design(*, budget: str, first_seed: int) -> Design:
    """Return the design of the study: every baseline is trained once with each learning rate.

    Args:
        budget: name of a budget of `BUDGETS`.
        first_seed: first seed of the study of baselines.
    """
    sizes = BUDGETS[budget]
    arms = [
        baseline_arm(sizes, name, rate, {"arm": name, "learning_rate": rate})
        for name in BASELINES
        for rate in RATES[sizes.recipe]
    ]
    report = partial(_report, sizes, arms)
    return digit_design(
        "baselines-settings",
        sizes,
        arms,
        first_seed=first_seed + TRIED_SEED,
        seeds=1,
        report=report,
        split=COMPARED,
    )


def chosen_rates(rows: Rows) -> dict[str, float]:
    """Return the learning rate of each baseline with the lowest Fréchet distance; of equal ones the lower.

    A run that diverged is the worst, whatever its distance would be.
    """
    return {
        name: min(
            (row for row in rows.values() if row["arm"] == name),
            key=lambda row: (
                row[DISTANCE] if math.isfinite(row[DISTANCE]) else math.inf,
                row["learning_rate"],
            ),
        )["learning_rate"]
        for name in BASELINES
    }


def _report(budget: DigitBudget, arms: Sequence[Arm], rows: Rows, folder: Path) -> tuple[str, list[Path]]:
    """Write the table of all tries, and return it with the choice."""
    chosen = chosen_rates(rows)
    table = [
        line | {"chosen": "yes" if chosen[str(arm.key["arm"])] == arm.key["learning_rate"] else ""}
        for arm, line in zip(arms, quality_table(arms, rows), strict=True)
    ]
    note = (
        f"Every baseline with {len(RATES[budget.recipe])} learning rates and equal FLOPs of training, on one "
        "seed that the study of baselines does not report, and compared with training digits, as its scores "
        "are those of the held-out ones. The rate with the lowest Fréchet distance is chosen. For "
        f"`baseline_settings.py`, {budget.recipe}: "
        f"`{json.dumps(chosen)}`"
    )
    path = folder / "baselines-settings.md"
    page = ["# Settings of the study of baselines", "", note, "", *markdown_table(table), ""]
    with whole(path) as temporary_path:
        temporary_path.write_text("\n".join(page))
    return f"{format_table(table)}\n\n{note}", [path]
