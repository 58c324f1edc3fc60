"""Verdicts on what is expected of scores: differences paired by seed, with 95% t intervals.

A verdict is a test at 2.5% on each side: an expectation that is not true is confirmed with a probability of
at most 2.5%, if the differences are about normal. Does not import torch.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

from ..metrics.paired import MeanInterval, mean_interval
from ..utils.errors import UserError, in_words

Scores = Mapping[int, float]  # by seed
Direction = Literal["higher", "lower"]
Verdict = Literal["confirmed", "refuted", "undecided", "not learned at this budget", "not measured"]
CONFIRMED: Verdict = "confirmed"
REFUTED: Verdict = "refuted"
UNDECIDED: Verdict = "undecided"
NOT_LEARNED: Verdict = "not learned at this budget"
NOT_MEASURED: Verdict = "not measured"

LEAST_SEEDS = 5  # of a comparison that may be confirmed or refuted
ROUNDING = 1e-9  # relative difference of scores that count as equal


@dataclass(frozen=True)
class Expectation:
    """Expectation of a claim about the difference of two scores, or about a trend of scores.

    Attributes:
        effect: `higher` or `lower`, or `equal` within the margin.
        margin: of `equal`, the difference that still counts as none; of `higher` and `lower`, the difference
            that must be exceeded. It is in units of the score, or with `relative` a fraction of it. A trend
            has none.
        worse: of `equal`, the direction of worse scores: a score that is worse by more than the margin
            refutes the expectation.
        relative: whether ratios of scores are compared, by their logarithms, in place of differences.
    """

    effect: Literal["higher", "lower", "equal"]
    margin: float = 0.0
    worse: Direction | None = None
    relative: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf:
            raise ValueError(f"a margin must be at least 0 and finite, not {self.margin}")
        if self.effect == "equal" and (self.margin == 0 or self.worse is None):
            raise ValueError(
                "scores that should be equal need a margin above 0 and the direction of worse ones"
            )

    def __str__(self) -> str:
        """Return the expectation in words for a table."""
        if not self.margin:
            return self.effect
        margin = f"{100 * self.margin:.3g}%" if self.relative else f"{self.margin:.3g}"
        return f"equal within {margin}" if self.effect == "equal" else f"{self.effect} by over {margin}"

    def verdict(self, difference: MeanInterval) -> Verdict:
        """Return the verdict on a difference whose interval is known, whatever the number of values.

        `higher` is confirmed if the whole interval lies above the margin, and refuted if it lies below.
        `lower` is its mirror image. `equal` is confirmed if the whole interval lies inside the margin on both
        sides, and refuted if it lies beyond the margin on the side of worse scores. An interval that touches
        a bound decides nothing.
        """
        if difference.low is None or difference.high is None:
            return UNDECIDED
        margin = math.log1p(self.margin) if self.relative else self.margin
        low, high = difference.low, difference.high
        if self.effect == "lower" or (self.effect == "equal" and self.worse == "higher"):
            low, high = -high, -low  # as if higher scores were expected, or better
        if self.effect == "equal":
            if -margin < low and high < margin:
                return CONFIRMED
            return REFUTED if high < -margin else UNDECIDED
        if low > margin:
            return CONFIRMED
        return REFUTED if high < margin else UNDECIDED


HIGHER, LOWER = Expectation("higher"), Expectation("lower")


@dataclass(frozen=True)
class Comparison:
    """Tested difference or trend of scores.

    Attributes:
        name: what is compared, such as `4 blocks against 1`.
        expected: what the claim expects.
        verdict: the verdict.
        reason: reason of a verdict that the interval alone does not explain, or an empty text.
        difference: mean difference, or slope for each doubling, with its interval over the seeds; of
            logarithms if the expectation is relative; None if nothing was compared.
        pairs: what the scores are paired by.
    """

    name: str
    expected: Expectation
    verdict: Verdict
    reason: str = ""
    difference: MeanInterval | None = None
    pairs: str = "seed"

    def row(self) -> dict[str, str]:
        """Return the comparison as a row of a table."""
        interval, count = self.difference, 0 if self.difference is None else self.difference.count
        bounds = (None,) * 3 if interval is None else (interval.mean, interval.low, interval.high)
        mean, low, high = ("" if bound is None else self._words(bound) for bound in bounds)
        return {
            "comparison": self.name,
            "expected": str(self.expected),
            "difference": mean,
            "95% interval": f"{low} to {high}" if low else "",
            f"{self.pairs}s": str(count),
            "verdict": f"{self.verdict}: {self.reason}" if self.reason else self.verdict,
        }

    def _words(self, difference: float) -> str:
        if self.expected.relative:
            return f"{100 * math.expm1(min(difference, 700.0)):+.3g}%"  # exp overflows from 710
        return f"{difference:+.3g}"


def compare(
    name: str, treated: Scores, control: Scores, expected: Expectation, *, pairs: str = "seed"
) -> Comparison:
    """Compare two scores over the seeds that have both.

    Args:
        name: what is compared.
        treated: scores of the setting that the claim speaks of, by seed.
        control: scores of the setting that it is compared with.
        expected: what the claim expects of treated minus control.
        pairs: what takes the place of seeds, if it is something else.

    Returns:
        Comparison that is `not measured` if no seed has both scores, and `undecided` with fewer than 5 seeds
        or a score that is not finite.
    """
    seeds = sorted(treated.keys() & control.keys())
    for scores, side in ((treated, "first"), (control, "second")):
        if not scores:
            return Comparison(name, expected, NOT_MEASURED, f"the {side} score is missing", pairs=pairs)
    differences = {seed: _difference(treated[seed], control[seed], expected) for seed in seeds}
    return _tested(name, expected, differences, pairs)


def trend(
    name: str, levels: Mapping[float, Scores], expected: Expectation, *, pairs: str = "seed"
) -> Comparison:
    """Test whether scores rise or fall with a level, such as the number of blocks.

    The test is one t interval, over the seeds, of the slope of the scores against the logarithm of the level
    (least squares, for each seed on its own). Slopes use all levels in a single test; if all neighbouring
    levels had to differ, each step would have to be far beyond the noise. As a slope alone could hide a turn,
    a decided trend becomes undecided if any two neighbouring levels, compared by themselves, differ the other
    way with their whole interval.

    Args:
        name: what is compared.
        levels: scores by seed, by level; at least two levels above 0.
        expected: `higher` for scores that rise with the level, `lower` for scores that fall.
        pairs: what takes the place of seeds, if it is something else.
    """
    if len(levels) < 2 or min(levels) <= 0 or expected.margin:
        raise ValueError(
            f"a trend needs two levels above 0, and no margin, not {sorted(levels)} and {expected}"
        )
    ordered = sorted(levels)
    missing = [f"{level:g}" for level in ordered if not levels[level]]
    if missing:
        reason = f"nothing is measured at {in_words(missing, 'and')}"
        return Comparison(name, expected, NOT_MEASURED, reason, pairs=pairs)
    seeds = sorted(set[int].intersection(*(set(scores) for scores in levels.values())))
    centre = fmean(map(math.log2, ordered))
    offsets = [math.log2(level) - centre for level in ordered]
    square = sum(offset**2 for offset in offsets)
    slopes = {}
    for seed in seeds:
        first = levels[ordered[0]][seed]
        rises = [_difference(levels[level][seed], first, expected) for level in ordered]
        slope = sum(a * b for a, b in zip(offsets, rises, strict=True)) / square
        slopes[seed] = 0.0 if abs(slope) <= ROUNDING * max(map(abs, rises)) else slope
    tested = _tested(name, expected, slopes, pairs)
    if tested.verdict not in (CONFIRMED, REFUTED):
        return tested
    for before, after in pairwise(ordered):
        neighbours = compare(name, levels[after], levels[before], expected).verdict
        if neighbours == (REFUTED if tested.verdict == CONFIRMED else CONFIRMED):
            reason = f"{tested.verdict} by the slope, but not from {before:g} to {after:g}"
            return replace(tested, verdict=UNDECIDED, reason=reason)
    return tested


def differences_of(treated: Scores, control: Scores) -> dict[int, float]:
    """Return treated minus control of the seeds that have both, for trends of differences."""
    return {
        seed: _difference(treated[seed], control[seed], HIGHER)
        for seed in sorted(treated.keys() & control.keys())
    }


def scores_of(
    rows: Iterable[Mapping[str, Any]], column: str, *, pairs: str = "seed", **where: object
) -> dict[int, float]:
    """Return a column of the rows in which other columns have given values, by seed.

    Args:
        rows: rows of measurements.
        column: column of the score; rows without it, or with null, are left out.
        pairs: column of the seed, or of what else pairs the scores.
        where: values of other columns.

    Raises:
        UserError: if two rows have the same seed, or a score is not a number.
    """
    scores: dict[int, float] = {}
    for row in rows:
        if any(key not in row or row[key] != value for key, value in where.items()):
            continue
        value, seed = row.get(column), row.get(pairs)
        if value is None:
            continue
        if type(seed) is not int:
            raise UserError(f"{pairs} must be a whole number, not {seed!r}, in the row {dict(row)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{column} must be a number, not {value!r}, in the row {dict(row)}")
        if seed in scores:
            raise UserError(f"two rows have the {pairs} {seed} and {where}")
        try:
            scores[seed] = float(value)
        except OverflowError as error:
            raise UserError(f"{column} is too large a number in the row of {pairs} {seed}") from error
    return scores


def conclude(comparisons: Sequence[Comparison]) -> Verdict:
    """Return the verdict on a claim that holds if each of its comparisons does.

    All comparisons must be confirmed, so that a claim is falsely confirmed no more often than one of them.
    A single refuted one refutes it: with k comparisons, up to k times 2.5% of true claims are refuted.
    """
    verdicts = [each.verdict for each in comparisons]
    if REFUTED in verdicts:
        return REFUTED
    for only in (CONFIRMED, NOT_MEASURED):
        if all(verdict == only for verdict in verdicts):
            return only if verdicts else NOT_MEASURED
    return NOT_LEARNED if NOT_LEARNED in verdicts else UNDECIDED


def count_words(comparisons: Sequence[Comparison], pairs: str = "seed") -> str:
    """Return the sentences that stand above a table of comparisons.

    Args:
        comparisons: the comparisons.
        pairs: what the scores are paired by.
    """
    number = f"{len(comparisons)} comparison{'' if len(comparisons) == 1 else 's'}"
    return (
        f"{number}, paired by {pairs}, with 95% t intervals: an expectation that is just not met is "
        "confirmed by chance once in 40 comparisons. The difference of a trend is the change for each "
        "doubling."
    )


def _tested(name: str, expected: Expectation, differences: Mapping[int, float], pairs: str) -> Comparison:
    """Return the comparison of differences by seed, or by what else pairs the scores."""
    if not differences:
        return Comparison(name, expected, NOT_MEASURED, f"no {pairs} has all scores", pairs=pairs)
    wrong = [str(seed) for seed, difference in differences.items() if not math.isfinite(difference)]
    if wrong:
        needed = "finite and positive" if expected.relative else "finite"
        reason = f"a score of {pairs} {in_words(wrong, 'and')} is not {needed}"
        return Comparison(name, expected, UNDECIDED, reason, pairs=pairs)
    interval = mean_interval(list(differences.values()))
    if len(differences) < LEAST_SEEDS:
        reason = f"{len(differences)} of at least {LEAST_SEEDS} {pairs}s"
        return Comparison(name, expected, UNDECIDED, reason, interval, pairs)
    return Comparison(name, expected, expected.verdict(interval), "", interval, pairs)


def _difference(treated: float, control: float, expected: Expectation) -> float:
    """Return the difference of two scores, or of their logarithms if ratios are compared.

    It is 0 if the scores differ by rounding alone, and NaN if a score is not finite, or has no logarithm.
    """
    if not (math.isfinite(treated) and math.isfinite(control)):
        return math.nan
    if expected.relative and min(treated, control) <= 0:
        return math.nan
    if math.isclose(treated, control, rel_tol=ROUNDING):
        return 0.0
    return math.log(treated / control) if expected.relative else treated - control
