"""Study of one network that is trained on several block sizes, against one network for each."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .design import Design, Rows
from .digit_quality import Arm, digit_design
from .digit_report import Line, Panel, arm_scores, digit_page
from .digit_runs import BUDGETS, DigitBudget

ALONE, EACH, TOTAL = "alone", "mixed, steps of one", "mixed, steps of all"


def anyblock_design(*, budget: str, first_seed: int, seeds: int) -> Design:
    """Return the design of the study.

    Args:
        budget: name of a budget of `BUDGETS`.
        first_seed: first seed.
        seeds: number of seeds.
    """
    sizes = BUDGETS[budget]
    arms = anyblock_arms(sizes)
    report = partial(_report, sizes, arms)
    return digit_design("anyblock", sizes, arms, first_seed=first_seed, seeds=seeds, report=report)


def anyblock_arms(budget: DigitBudget) -> list[Arm]:
    """Return an arm for each training and number of blocks in sampling."""
    blocks = budget.blocks()
    mixed = {"layout.blocks": list(blocks.values())}
    trainings = {EACH: mixed, TOTAL: mixed | {"training.steps": len(blocks) * budget.steps}}
    alone = [
        Arm({"training": ALONE, "blocks": count}, {"layout.blocks": [block]})
        for count, block in blocks.items()
    ]
    return alone + [
        Arm({"training": training, "blocks": count}, overrides, block=block)
        for training, overrides in trainings.items()
        for count, block in blocks.items()
    ]


def counts_of(rows: Rows) -> list[int]:
    """Return the numbers of blocks in sampling."""
    return sorted({row["blocks"] for row in rows.values()})


def _report(budget: DigitBudget, arms: Sequence[Arm], rows: Rows, folder: Path) -> tuple[str, list[Path]]:
    """Write the page and the plot, and return the tables."""
    counts = counts_of(rows)
    lines = [
        Line(training, {count: arm_scores(rows, training=training, blocks=count) for count in counts})
        for training in (ALONE, EACH, TOTAL)
    ]
    ticks: dict[float, str] = {count: str(count) for count in counts}
    panel = Panel("training of the network", "number of blocks", lines, ticks, log=True)
    lead = (
        f"Networks on one number of blocks ({ALONE}), and on all of them, one drawn at random per step: with "
        f"as many steps as each of the others ({EACH}), and as all of them together ({TOTAL})."
    )
    return digit_page(
        budget, "anyblock", "One network for all block sizes", lead, arms, [panel], rows, folder
    )
