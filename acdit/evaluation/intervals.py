"""Intervals of scores, by resampling the samples while the reference is held fixed."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..metrics.distances import CMMD_SCALE, cubic_kernel, gaussian_kernel
from ..metrics.resampling import (
    basic_interval,
    coverage_errors,
    density_errors,
    frechet_errors,
    kernel_errors,
    precision_errors,
    recall_errors,
)
from .metric_table import K_COVERAGE, K_PRECISION, Sets, item_pair, items_of
from .report import Interval

LEVEL = 0.95
INFINITE = "value of infinitely many samples of the same model, with this reference"
SAME_COUNT = "mean value of sets of as many samples of the same model, with this reference"


@dataclass(frozen=True)
class IntervalMethod:
    """Method of the intervals of a score.

    Attributes:
        errors: function of the sets and a seed that returns errors of the score on resampled sets, (R,).
        estimand: value that the interval covers, in words.
        low: least possible value.
        high: largest possible value.
        least: least number of samples for which the interval is printed; None = never, because simulated
            intervals cover their estimand too rarely or too often. The table of `acdit study intervals`
            decides it.
        per_feature: least number of samples per feature.
    """

    errors: Callable[[Sets, int], Tensor]
    estimand: str
    low: float = float("-inf")
    high: float = float("inf")
    least: int | None = None
    per_feature: float = 0.0

    def suits(self, samples: int, width: int) -> bool:
        """Return whether intervals are printed for a number of samples and of features."""
        return self.least is not None and samples >= max(self.least, self.per_feature * width)

    def interval(self, value: float, sets: Sets, seed: int) -> Interval:
        """Return the interval of a value of the sets, whether or not it is printed."""
        low, high = basic_interval(value, self.errors(sets, seed), LEVEL)
        return Interval(max(low, self.low), min(high, self.high), LEVEL, self.estimand)


def _frechet(sets: Sets, seed: int) -> Tensor:
    assert sets.reference is not None
    return frechet_errors(items_of(sets.samples), sets.reference.statistics, seed)


def _kernel(sets: Sets, seed: int) -> Tensor:
    return kernel_errors(*item_pair(sets), cubic_kernel, unbiased=True, seed=seed)


def _cmmd(sets: Sets, seed: int) -> Tensor:
    return CMMD_SCALE * kernel_errors(*item_pair(sets), gaussian_kernel, unbiased=False, seed=seed)


def _precision(sets: Sets, seed: int) -> Tensor:
    return precision_errors(*item_pair(sets), K_PRECISION, seed)


def _recall(sets: Sets, seed: int) -> Tensor:
    return recall_errors(*item_pair(sets), K_PRECISION, seed)


def _coverage(sets: Sets, seed: int) -> Tensor:
    return coverage_errors(*item_pair(sets), K_COVERAGE, seed)


def _density(sets: Sets, seed: int) -> Tensor:
    return density_errors(*item_pair(sets), K_COVERAGE, seed)


INTERVALS: dict[str, IntervalMethod] = {
    "frechet_distance": IntervalMethod(_frechet, INFINITE, low=0, least=200, per_feature=60),
    "kernel_distance": IntervalMethod(_kernel, INFINITE),
    "cmmd": IntervalMethod(_cmmd, INFINITE),
    "precision": IntervalMethod(_precision, SAME_COUNT, 0, 1, least=200),
    "recall": IntervalMethod(_recall, SAME_COUNT, 0, 1, least=200),
    "coverage": IntervalMethod(_coverage, SAME_COUNT, 0, 1, least=200),
    "density": IntervalMethod(_density, SAME_COUNT, 0, least=200),
}


def interval_of(score: str, value: float, sets: Sets, seed: int) -> Interval | None:
    """Return the interval of a score; None if none is known to be right.

    Args:
        score: name of the score, such as `precision`.
        value: its value.
        sets: sets that it was computed on.
        seed: seed of the resampling.
    """
    method, samples = INTERVALS.get(score), sets.samples
    if method is None or samples.values is None or samples.parts > 1:  # parts would have to be drawn together
        return None
    if not method.suits(len(samples), samples.values.shape[1]) or value in (method.low, method.high):
        return None  # at the end of the range, such as a recall of 0, resampled sets hardly vary
    interval = method.interval(value, sets, seed)
    return interval if interval.low < interval.high else None  # as where all samples lie in a ball
