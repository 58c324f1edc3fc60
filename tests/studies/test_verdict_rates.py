"""How often verdicts are right and wrong, on simulated comparisons of normal differences."""

import numpy as np
import pytest
import scipy.stats

from acdit.studies.verdicts import CONFIRMED, REFUTED, Expectation, compare, trend
from tests.studies.test_verdicts import HIGHER, LOWER, equal

SETS = 3000
TOLERANCE = 4 * (0.025 * 0.975 / SETS) ** 0.5  # four standard errors of a rate of 2.5%


def rates(expected: Expectation, mean: float, seeds: int = 5) -> dict[str, float]:
    """Rates of verdicts on simulated comparisons of normal differences with a standard deviation of 1."""
    draws = mean + np.random.default_rng(seeds).normal(size=(SETS, seeds))
    zeros = dict.fromkeys(range(seeds), 0.0)
    found = [compare("x", dict(enumerate(row)), zeros, expected).verdict for row in draws.tolist()]
    return {verdict: found.count(verdict) / SETS for verdict in (CONFIRMED, REFUTED)}


@pytest.mark.parametrize("seeds", [5, 8])
def test_what_is_just_not_true_is_rarely_confirmed_and_just_true_rarely_refuted(seeds):
    """At the bound of each expectation; the rate of a one-sided test is exactly 2.5%."""
    for expected, bound in ((HIGHER, 0), (LOWER, 0), (Expectation("higher", 2.0), 2), (equal(2.0), 2)):
        for rate in rates(expected, bound, seeds).values():
            assert rate == pytest.approx(0.025, abs=TOLERANCE)
    better = rates(equal(2.0), -2, seeds)
    assert better[CONFIRMED] == pytest.approx(0.025, abs=TOLERANCE) and better[REFUTED] < 0.001


def test_what_is_true_is_confirmed_as_often_as_the_noncentral_t_distribution_says():
    power = scipy.stats.nct.sf(scipy.stats.t.ppf(0.975, 4), 4, 2 * 5**0.5)  # mean 2, 5 seeds
    error = float(power * (1 - power) / SETS) ** 0.5
    assert rates(HIGHER, 2.0)[CONFIRMED] == pytest.approx(power, abs=4 * error)


def test_a_trend_is_rarely_confirmed_by_chance():
    random = np.random.default_rng(1)
    draws = random.normal(size=(SETS, 4, 5))
    found = [
        trend(
            "x", {2**level: dict(enumerate(row)) for level, row in enumerate(draw.tolist())}, HIGHER
        ).verdict
        for draw in draws
    ]
    for verdict in (CONFIRMED, REFUTED):
        assert 0.01 < found.count(verdict) / SETS < 0.025 + TOLERANCE
