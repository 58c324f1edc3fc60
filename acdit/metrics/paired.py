"""Intervals of means by Student's t distribution, and the verdict on paired differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean, stdev
from typing import Literal

from ..utils.errors import UserError

Verdict = Literal["helps", "hurts", "undecided"]
EXPANDED = 500  # degrees of freedom from which the quantile is expanded, with an error below 1e-12


@dataclass(frozen=True)
class MeanInterval:
    """Mean of values with its t interval.

    Attributes:
        mean: the mean.
        low: lower bound; None for a single value, whose spread is not known.
        high: upper bound; None for a single value.
        count: number of values.
        level: nominal coverage.
    """

    mean: float
    low: float | None
    high: float | None
    count: int
    level: float

    @property
    def verdict(self) -> Verdict:
        """Return what the interval says of a treatment, if the values are what it adds to a score.

        It helps if the whole interval is above 0, hurts if it is below 0, and is undecided otherwise, as with
        a single value.
        """
        if self.low is not None and self.low > 0:
            return "helps"
        if self.high is not None and self.high < 0:
            return "hurts"
        return "undecided"


def mean_interval(values: Sequence[float], level: float = 0.95) -> MeanInterval:
    """Return the mean of values with its t interval, mean ± t s / sqrt(n).

    The interval assumes that the values are independent and about normal. Values that are all equal have an
    interval without width.

    Args:
        values: the values.
        level: nominal coverage, between 0 and 1.

    Raises:
        UserError: if there are no values, or one is not finite.
    """
    given = [float(value) for value in values]
    if not given or not all(map(math.isfinite, given)):
        raise UserError(f"a mean needs at least one value, and finite ones, not {given}")
    mean = fmean(given)
    if len(given) == 1:
        return MeanInterval(mean, None, None, 1, level)
    half = t_quantile(level, len(given) - 1) * stdev(given) / math.sqrt(len(given))
    return MeanInterval(mean, mean - half, mean + half, len(given), level)


def paired_differences(
    treated: Sequence[float],
    control: Sequence[float],
    level: float = 0.95,
    *,
    better: Literal["higher", "lower"] = "higher",
) -> MeanInterval:
    """Return the mean improvement of paired scores, such as those of runs with the same seeds.

    Pairs share what the treatment does not change, so that the spread of their differences is smaller than
    that of the scores.

    Args:
        treated: scores with the treatment, one for each pair.
        control: scores without it, in the same order.
        level: nominal coverage of the interval.
        better: which scores are better; with `lower`, an improvement is a decrease.

    Raises:
        UserError: if the numbers of scores differ, there are none, or one is not finite.
    """
    if len(treated) != len(control):
        raise UserError(f"pairs need as many scores on both sides, not {len(treated)} and {len(control)}")
    sign = 1 if better == "higher" else -1
    return mean_interval([sign * (a - b) for a, b in zip(treated, control, strict=True)], level)


@lru_cache(maxsize=1024)
def t_quantile(level: float, degrees: int) -> float:
    """Return t such that a variable of Student's t distribution lies in [-t, t] with the probability `level`.

    Args:
        level: probability, at least 0 and below 1.
        degrees: degrees of freedom, at least 1.

    Raises:
        UserError: if an argument is outside its range.
    """
    if not 0 <= level < 1 or degrees < 1:
        raise UserError(
            f"a t interval needs a level from 0 to below 1 and at least 1 degree of freedom, not {level} and "
            f"{degrees}"
        )
    if degrees >= EXPANDED:
        return _expanded_quantile(level, degrees)
    low, high = 0.0, math.pi / 2  # of the angle arctan(t / sqrt(degrees))
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if _central_probability(middle, degrees) < level else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _central_probability(angle: float, degrees: int) -> float:
    """Return the probability of [-t, t] for t = sqrt(degrees) tan(angle).

    Abramowitz and Stegun (1964), equations 26.7.3 and 26.7.4.
    """
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(odd, degrees - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _expanded_quantile(level: float, degrees: int) -> float:
    """Return the quantile by the expansion in 1 / degrees, Abramowitz and Stegun (1964), equation 26.7.5."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / degrees**power for power, term in enumerate(terms))
