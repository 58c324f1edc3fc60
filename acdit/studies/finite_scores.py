"""Means of scores as text, where the training run of a score may have diverged. Does not import torch."""

import math
from collections.abc import Iterable, Sequence

from ..metrics.paired import mean_interval


def finite(values: Iterable[float | None]) -> list[float]:
    """Return the values that were measured and are finite."""
    return [value for value in values if value is not None and math.isfinite(value)]


def with_interval(values: Sequence[float], mean: str = ".3g", half: str = ".2g") -> str:
    """Return the mean of values with half the width of its 95% interval, as text.

    If a value is not finite, the text says in place of a mean how many of the runs diverged.

    Args:
        values: values of the seeds.
        mean: format of the mean.
        half: format of half the width.
    """
    count = len(values) - len(finite(values))
    if count:
        return "diverged" if count == len(values) else f"diverged ({count} of {len(values)})"
    interval = mean_interval(values)
    spread = "" if interval.low is None else f" ± {interval.mean - interval.low:{half}}"
    return f"{interval.mean:{mean}}{spread}"
