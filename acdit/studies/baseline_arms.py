"""Arms of the studies of baselines: ACDiT, and what it is compared with."""

from collections.abc import Mapping
from typing import Any

from .digit_quality import Arm
from .digit_runs import DigitBudget

# Learning rates that are tried, by data; the middle one is that of the other studies.
RATES = {"digits": (1.5e-3, 3e-3, 6e-3), "mnist": (1e-3, 2e-3, 4e-3)}
ACDIT, DIT, TOKEN_WISE = "ACDiT", "full-sequence DiT", "token-wise autoregression"
NOISED, HEAD = "noised past", "per-token head"
BASELINES = (ACDIT, DIT, TOKEN_WISE, NOISED, HEAD)


def baseline_arm(budget: DigitBudget, name: str, rate: float, key: Mapping[str, Any]) -> Arm:
    """Return the arm of a baseline.

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
    return Arm(key, overrides)
