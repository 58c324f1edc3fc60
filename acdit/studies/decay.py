"""Study of quality before, in and after the decay of the learning rate (Fig. 6c)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .design import Design, Rows
from .digit_quality import ACCURACY, Arm, digit_design
from .digit_report import Line, Panel, arm_scores, digit_page
from .digit_runs import BUDGETS, DECAY, DigitBudget
from .verdicts import Comparison, Expectation, compare

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


def compare_decay(rows: Rows) -> list[Comparison]:
    """Return the comparisons of the study."""
    lower = Expectation("lower")
    comparisons = []
    for weights in WEIGHTS:
        before, inside, after = (
            arm_scores(rows, schedule="wsd", weights=weights, trained=trained)
            for trained in (BEFORE, INSIDE, AFTER)
        )
        constant = arm_scores(rows, schedule="constant", weights=weights, trained=AFTER)
        comparisons += [
            compare(
                f"half-way through the decay against before it, {weights} weights", inside, before, lower
            ),
            compare(f"after the decay against before it, {weights} weights", after, before, lower),
            compare(
                f"decay against as many steps at a constant rate, {weights} weights", after, constant, lower
            ),
        ]
    return comparisons


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
    learned = arm_scores(rows, ACCURACY, schedule="wsd", weights="averaged", trained=AFTER)
    lead = (
        "One network, measured at checkpoints; with a constant rate it is the same until the decay. Averaged "
        f"weights are a moving average of decay {budget.optimizer['ema_decay']:g}. Comparisons are of the "
        "Fréchet distance, where lower is better."
    )
    return digit_page(
        "Quality in the decay of the learning rate",
        lead,
        arms,
        compare_decay(rows),
        learned,
        [panel],
        rows,
        folder,
        "decay",
    )
