"""Study of ACDiT against its baselines at equal size (Tables 1, 2)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .baseline_arms import ACDIT, BASELINES, DIT, baseline_arm
from .baseline_settings import CHOSEN
from .design import Design, Rows
from .digit_quality import ACCURACY, DISTANCE, Arm, digit_design
from .digit_report import Line, Panel, arm_scores, digit_page
from .digit_runs import BUDGETS
from .verdicts import Comparison, Expectation, compare


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
    report = partial(_report, arms)
    return digit_design("baselines", sizes, arms, first_seed=first_seed, seeds=seeds, report=report)


def compare_baselines(rows: Rows) -> list[Comparison]:
    """Return the comparisons of the study: ACDiT against each baseline."""
    own = arm_scores(rows, arm=ACDIT)
    return [
        compare(f"{ACDIT} against {name}", own, arm_scores(rows, arm=name), Expectation("lower"))
        for name in BASELINES
        if name != ACDIT
    ]


def _report(arms: Sequence[Arm], rows: Rows, folder: Path) -> tuple[str, list[Path]]:
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
        f"Networks of equal size and equally many training steps; {DIT} has one block, and the token-wise "
        "ones a block for each token. The learning rate of each is the best of three on another seed (`acdit "
        "study baselines-settings`). Comparisons are of the Fréchet distance, where lower is better."
    )
    learned = arm_scores(rows, ACCURACY, arm=ACDIT)
    return digit_page(
        "Baselines", lead, arms, compare_baselines(rows), learned, panels, rows, folder, "baselines"
    )


def _mean(rows: Rows, name: str, column: str, unit: float) -> float:
    scores = arm_scores(rows, column, arm=name)
    return sum(scores.values()) / len(scores) / unit
