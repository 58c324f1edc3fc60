"""Intervals of Student's t distribution and the verdict on paired differences, against SciPy."""

import math

import numpy as np
import pytest
import scipy.stats

from acdit.metrics.paired import EXPANDED, mean_interval, paired_differences, t_quantile
from acdit.utils.errors import UserError


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 30, 101, EXPANDED - 1, EXPANDED, 10**6])
@pytest.mark.parametrize("level", [0.0, 0.5, 0.95, 0.999])
def test_the_quantile_is_that_of_scipy(degrees, level):
    expected = scipy.stats.t.ppf((1 + level) / 2, degrees)
    assert t_quantile(level, degrees) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_paired_differences_are_those_of_scipy(count):
    random = np.random.default_rng(count)
    treated, control = np.add(random.normal(size=(2, count)), [[0.5], [0]])
    expected = scipy.stats.ttest_rel(treated, control).confidence_interval(0.9)
    result = paired_differences(list(treated), list(control), 0.9)
    assert result.mean == pytest.approx(np.mean(treated - control))
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))
    assert (result.count, result.level) == (count, 0.9)


def test_the_verdict_is_that_of_the_interval():
    base = [0.90, 0.92, 0.91]
    assert paired_differences([0.95, 0.96, 0.96], base).verdict == "helps"
    assert paired_differences(base, [0.95, 0.96, 0.96]).verdict == "hurts"
    assert paired_differences([0.95, 0.96, 0.90], base).verdict == "undecided"
    # a mean of 0.04 and a standard deviation of 0.0180: half the width is 4.3027 x 0.0180 / sqrt(3) = 0.0448
    assert paired_differences([0.92, 0.975, 0.955], base).verdict == "undecided"
    assert paired_differences([1.0, 1.1, 0.9], [2.0, 2.2, 1.8], better="lower").verdict == "helps"


def test_ties_decide_nothing_and_equal_differences_have_no_spread():
    tied = paired_differences([0.5, 0.7], [0.5, 0.7])
    assert (tied.mean, tied.low, tied.high, tied.verdict) == (0, 0, 0, "undecided")
    equal = paired_differences([1.5, 2.5, 3.5], [1, 2, 3])
    assert (equal.low, equal.high, equal.verdict) == (0.5, 0.5, "helps")
    assert paired_differences([1, 2, 3], [1.5, 2.5, 3.5]).verdict == "hurts"


def test_a_single_pair_has_no_interval():
    single = paired_differences([0.9], [0.1])
    assert (single.mean, single.low, single.high, single.verdict) == (0.8, None, None, "undecided")


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="not 2 and 1"):
        paired_differences([1, 2], [1])
    for values in ([], [1.0, math.nan], [math.inf]):
        with pytest.raises(UserError, match="at least one value"):
            mean_interval(values)
    for level, degrees in ((1.0, 3), (-0.1, 3), (0.95, 0)):
        with pytest.raises(UserError, match="a t interval needs"):
            t_quantile(level, degrees)
