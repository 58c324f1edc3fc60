"""Study of quality against number of blocks and length of the sequence, over the training (Fig. 4)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .design import Design, Rows
from .digit_quality import Arm, digit_design
from .digit_report import Line, Panel, arm_scores, digit_page
from .digit_runs import BUDGETS, DigitBudget

TRAINED = (0.4, 0.8, 1.0)  # fractions of the training; the learning rate decays from 0.8 on


def blocks_design(*, budget: str, first_seed: int, seeds: int) -> Design:
    """Return the design of the study.

    Args:
        budget: name of a budget of `BUDGETS`.
        first_seed: first seed.
        seeds: number of seeds.
    """
    sizes = BUDGETS[budget]
    arms = block_arms(sizes)
    report = partial(_report, sizes, arms)
    return digit_design("blocks", sizes, arms, first_seed=first_seed, seeds=seeds, report=report)


def block_arms(budget: DigitBudget) -> list[Arm]:
    """Return an arm for each length of the sequence, number of blocks and point in the training."""
    arms = []
    for patch in _patches(budget):
        for count, block in budget.blocks(patch).items():
            overrides: dict[str, Any] = {"layout.blocks": [block]}
            if patch != budget.patch:
                overrides["layout.patch"] = patch
            tokens = budget.layout(block, patch).num_tokens
            for trained in TRAINED:
                key = {"tokens": tokens, "blocks": count, "trained": trained}
                arms.append(Arm(key, overrides, trained=trained))
    return arms


def _patches(budget: DigitBudget) -> tuple[int, int]:
    """Return the patch of the reference and one that makes sequences four times as long, or as short."""
    return (budget.patch, budget.patch // 2) if budget.side < 32 else (budget.patch * 2, budget.patch)


def _report(budget: DigitBudget, arms: Sequence[Arm], rows: Rows, folder: Path) -> tuple[str, list[Path]]:
    """Write the page and the plot, and return the tables."""
    final = [arm for arm in arms if arm.key["trained"] == 1.0]
    lengths = sorted({arm.key["tokens"] for arm in final})
    by_count = [
        Line(
            f"{tokens} tokens",
            {arm.key["blocks"]: arm_scores(rows, **arm.key) for arm in final if arm.key["tokens"] == tokens},
        )
        for tokens in lengths
    ]
    over_training = [
        Line(
            f"{arm.key['tokens']} tokens, blocks: {arm.key['blocks']}",
            {
                trained * budget.steps: arm_scores(rows, **{**arm.key, "trained": trained})
                for trained in TRAINED
            },
            "-" if arm.key["tokens"] == lengths[-1] else "--",
        )
        for arm in final
    ]
    counts = sorted({arm.key["blocks"] for arm in final})
    panels = [
        Panel(
            "after the training",
            "number of blocks",
            by_count,
            {count: str(count) for count in counts},
            log=True,
        ),
        Panel("over the training", "training steps", over_training),
    ]
    lead = (
        "Networks of equal size and equally many training steps, each on one number of blocks and one length "
        "of the sequence."
    )
    return digit_page(budget, "blocks", "Quality by number of blocks", lead, final, panels, rows, folder)
