"""Arms of the studies of baselines: ACDiT, and what it is compared with."""

from collections.abc import Mapping
from typing import Any

from .digit_quality import Arm
from .digit_runs import CHECKPOINTS, DigitBudget, digit_run
from .run_store import RunStore

# Learning rates that are tried, by data; the second one is that of the other studies.
RATES = {"digits": (1.5e-3, 3e-3, 6e-3, 1.2e-2, 2.4e-2), "mnist": (1e-3, 2e-3, 4e-3, 8e-3)}
ACDIT, DIT, TOKEN_WISE = "ACDiT", "full-sequence DiT", "token-wise autoregression"
NOISED, HEAD = "noised past", "per-token head"
BASELINES = (ACDIT, DIT, TOKEN_WISE, NOISED, HEAD)


def baseline_arm(budget: DigitBudget, name: str, rate: float, key: Mapping[str, Any]) -> Arm:
    """Return the arm of a baseline, trained for as many FLOPs as ACDiT is for the steps of the budget.

    Args:
        budget: sizes of the runs.
        name: name of the baseline, one of `BASELINES`.
        rate: learning rate.
        key: key of the arm.
    """
    overrides: dict[str, Any] = {"optimizer.learning_rate": rate}
    if name == DIT:
        overrides["layout.blocks"] = [budget.blocks()[1]]
    if name in (TOKEN_WISE, HEAD):
        overrides["layout.blocks"] = ["1x1"]
    if name == NOISED:
        overrides["model.context"] = "noised"
    if name == HEAD:
        overrides["model.kind"] = "token-head"
    if name != ACDIT:
        overrides["training.steps"] = steps_of_equal_compute(budget, overrides)
    return Arm(key, overrides)


def steps_of_equal_compute(budget: DigitBudget, overrides: Mapping[str, Any]) -> int:
    """Return the number of training steps with the FLOPs of the base run, a multiple of `CHECKPOINTS`.

    Args:
        budget: sizes of the runs.
        overrides: values of the recipe that differ from the base, by dotted key.

    Raises:
        ValueError: if the layout of a run does not fit the data.
    """
    store = RunStore()
    base, own = (store.run(digit_run(budget, 0, each, "")).flops for each in ({}, overrides))
    if base is None or own is None:
        raise ValueError(f"the layout of {budget.name} does not fit {budget.recipe}")
    return max(1, round(budget.steps * base / own / CHECKPOINTS)) * CHECKPOINTS
