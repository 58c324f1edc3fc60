"""Study of quality before, in and after the decay of the learning rate (Fig. 6c)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .design import Design, Rows
from .digit_quality import Arm, digit_design
from .digit_report import Line, Panel, arm_scores, digit_page
from .digit_runs import BUDGETS, DECAY, DigitBudget

BEFORE, INSIDE, AFTER = 1 - DECAY, 1 - DECAY / 2, 1.0  # fractions of the training
TRAINED = {"wsd": (0.4, 0.6, BEFORE, INSIDE, AFTER), "constant": (INSIDE, AFTER)}  # equal before the decay
WEIGHTS = {"averaged": True, "raw": False}


def decay_design(*, budget: str, first_seed: int, seeds: int) -> Design:
    """Return the design of the study.

    Args:
        budget: name of a budget of `BUDGETS`.
        first_seed: first seed.
        seeds: number of seeds.
    """
    sizes = BUDGETS[budget]
    arms = decay_arms()
    report = partial(_report, sizes, arms)
    return digit_design("decay", sizes, arms, first_seed=first_seed, seeds=seeds, report=report)


def decay_arms() -> list[Arm]:
    """Return an arm for each schedule, point in the training, and kind of weights."""
    return [
        Arm(
            {"schedule": schedule, "weights": weights, "trained": trained},
            {} if schedule == "wsd" else {"optimizer.schedule": schedule},
            trained=trained,
            averaged=averaged,
        )
        for schedule, points in TRAINED.items()
        for weights, averaged in WEIGHTS.items()
        for trained in points
    ]


def _report(budget: DigitBudget, arms: Sequence[Arm], rows: Rows, folder: Path) -> tuple[str, list[Path]]:
    """Write the page and the plot, and return the tables."""
    lines = [
        Line(
            f"{'decaying' if schedule == 'wsd' else 'constant'} rate, {weights} weights",
            {
                trained * budget.steps: arm_scores(
                    rows,
                    schedule="wsd" if trained <= BEFORE else schedule,
                    weights=weights,
                    trained=trained,
                )
                for trained in (*points, *([] if BEFORE in points else [BEFORE]))
            },
            "-" if schedule == "wsd" else "--",
        )
        for schedule, points in TRAINED.items()
        for weights in WEIGHTS
    ]
    panel = Panel(f"the rate decays from step {BEFORE * budget.steps:g} on", "training steps", lines)
    lead = (
        "One network, measured at checkpoints; with a constant rate it is the same until the decay. Averaged "
        f"weights are a moving average of decay {budget.optimizer['ema_decay']:g}."
    )
    return digit_page(
        budget, "decay", "Quality in the decay of the learning rate", lead, arms, [panel], rows, folder
    )
