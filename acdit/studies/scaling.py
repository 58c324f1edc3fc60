"""Study of quality against the size of the network, at several numbers of blocks (Fig. 6a)."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from .claims_digits import SIZES
from .design import Design, Rows
from .digit_quality import Arm, digit_design
from .digit_report import Line, Panel, arm_scores, digit_page
from .digit_runs import BUDGETS, DigitBudget
from .finite_scores import finite


def scaling_design(*, budget: str, first_seed: int, seeds: int) -> Design:
    """Return the design of the study.

    Args:
        budget: name of a budget of `BUDGETS`.
        first_seed: first seed.
        seeds: number of seeds.
    """
    sizes = BUDGETS[budget]
    arms = scaling_arms(sizes)
    report = partial(_report, sizes, arms)
    return digit_design("scaling", sizes, arms, first_seed=first_seed, seeds=seeds, report=report)


def scaling_arms(budget: DigitBudget) -> list[Arm]:
    """Return an arm for each size of the network and number of blocks."""
    networks = {"small": budget.smaller, "base": budget.network, "large": budget.larger}
    arms = []
    for size, network in networks.items():
        changed = {} if size == "base" else {f"model.{key}": value for key, value in network.items()}
        for count, block in budget.blocks().items():
            arms.append(Arm({"size": size, "blocks": count}, {"layout.blocks": [block], **changed}))
    return arms


def parameters_of(rows: Rows) -> dict[str, float]:
    """Return the number of parameters of each size of the network; NaN if all its runs diverged."""
    return {
        size: fmean(finite(row["parameters"] for row in rows.values() if row["size"] == size) or [math.nan])
        for size in SIZES
    }


def _report(budget: DigitBudget, arms: Sequence[Arm], rows: Rows, folder: Path) -> tuple[str, list[Path]]:
    """Write the page and the plot, and return the tables."""
    parameters = parameters_of(rows)
    counts: list[Any] = sorted({arm.key["blocks"] for arm in arms})
    lines = [
        Line(
            f"blocks: {count}",
            {parameters[size]: arm_scores(rows, size=size, blocks=count) for size in SIZES},
        )
        for count in counts
    ]
    ticks = {parameters[size]: f"{parameters[size] / 1000:,.0f}" for size in SIZES}
    panel = Panel("size of the network", "thousands of parameters", lines, ticks, log=True)
    lead = (
        "Networks of three sizes, each on one number of blocks, with equally many training steps. Trends are "
        "over the number of parameters."
    )
    return digit_page(budget, "scaling", "Quality by size of the network", lead, arms, [panel], rows, folder)
