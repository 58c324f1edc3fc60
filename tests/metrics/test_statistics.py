"""Statistics of features and their Fréchet distance, against NumPy, SciPy and closed forms."""

import numpy as np
import pytest
import scipy.linalg
import torch

from acdit.metrics import feature_sets
from acdit.metrics.distances import frechet
from acdit.metrics.statistics import Statistics, frechet_distance
from acdit.utils.errors import UserError
from tests.metrics.clouds import cloud


def test_statistics_are_the_mean_and_the_unbiased_covariance(monkeypatch):
    monkeypatch.setattr(feature_sets, "CHUNK", 7)
    points = cloud(40, 1) + 1000  # far from the origin, where sums of squares would lose digits
    statistics = Statistics.of(points)
    rows = points.double().numpy()
    assert statistics.count == 40
    np.testing.assert_allclose(statistics.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(statistics.covariance, np.cov(rows.T), rtol=1e-9)


@pytest.mark.parametrize("count", [20, 49, 50, 51, 400])
def test_the_distance_of_few_items_is_that_of_scipy(count):
    # with fewer items than features, both covariances are singular
    random = np.random.default_rng(count)
    scales = np.logspace(0, -3, 50)
    x, y = random.normal(size=(count, 50)) * scales, (random.normal(size=(count, 50)) + 0.1) * 1.3 * scales
    value = frechet(torch.from_numpy(x), torch.from_numpy(y))
    first, second = np.cov(x.T), np.cov(y.T)
    moved, traces = ((x.mean(0) - y.mean(0)) ** 2).sum(), np.trace(first + second)
    # the trace of the root is the sum of the singular values of the product of the centred sets
    cross = (x - x.mean(0)) @ (y - y.mean(0)).T / (count - 1)
    assert value == pytest.approx(moved + traces - 2 * np.sum(scipy.linalg.svdvals(cross)), rel=1e-9)
    root = np.real(scipy.linalg.sqrtm(scipy.linalg.sqrtm(first) @ second @ scipy.linalg.sqrtm(first)))
    assert value == pytest.approx(moved + traces - 2 * np.trace(root), rel=1e-4)


@pytest.mark.parametrize("count", [20, 400])
def test_equal_sets_are_at_distance_zero_to_rounding(count):
    points = torch.randn(count, 50, generator=torch.Generator().manual_seed(0)) * 100
    statistics = Statistics.of(points)
    size = float(statistics.covariance.trace())
    assert frechet(points, points) == pytest.approx(0, abs=1e-13 * size)
    assert frechet(points, points.flip(0)) == pytest.approx(0, abs=1e-13 * size)


def test_the_distance_of_statistics_is_a_closed_form():
    variances, others = torch.tensor([4.0, 9.0, 0.0]).double(), torch.tensor([1.0, 16.0, 25.0]).double()
    mean = torch.tensor([3.0, 0.0, -4.0]).double()
    a = Statistics(10, torch.zeros(3).double(), variances.diag())
    b = Statistics(1000, mean, others.diag())
    # (2 - 1)^2 + (3 - 4)^2 + (0 - 5)^2 of the standard deviations, and 3^2 + 4^2 of the means
    assert frechet_distance(a, b) == pytest.approx(27 + 25, rel=1e-12)
    assert frechet_distance(b, a) == pytest.approx(52, rel=1e-12)
    # a rotation of everything changes nothing
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double())[0]
    rotated = [
        Statistics(one.count, rotation @ one.mean, rotation @ one.covariance @ rotation.T) for one in (a, b)
    ]
    assert frechet_distance(*rotated) == pytest.approx(52, rel=1e-12)
    constant = Statistics(5, mean, torch.zeros(3, 3).double())
    assert frechet_distance(constant, constant) == 0
    assert frechet_distance(constant, a) == pytest.approx(25 + 13, rel=1e-12)


def test_bad_statistics_are_errors():
    a = Statistics.of(cloud(8, 1))
    broken = a.covariance.clone()
    broken[2, 3] = torch.nan
    for other, message in (
        (Statistics.of(cloud(8, 1, width=5)), r"\(at least 1, 6\), not \(1, 5\)"),
        (Statistics(8, a.mean, broken), "not finite"),
        (Statistics(8, a.mean, a.covariance[:5]), r"must be square, not \(6, 6\) and \(5, 6\)"),
    ):
        with pytest.raises(UserError, match=message):
            frechet_distance(a, other)
    with pytest.raises(UserError, match="at least 2"):
        Statistics.of(cloud(1, 1))


@pytest.mark.parametrize(("one", "other"), [(12, 80), (80, 12), (50, 50), (51, 30)])
def test_few_items_need_no_covariance(one, other):
    generator = torch.Generator().manual_seed(one)
    a, b = torch.randn(one, 50, generator=generator), torch.randn(other, 50, generator=generator) * 1.3 + 0.1
    assert frechet(a, b) == pytest.approx(frechet_distance(Statistics.of(a), Statistics.of(b)), rel=1e-9)
    wide = torch.randn(5, 100_000, generator=generator)  # whose covariance would take 80 GB
    assert frechet(wide, wide.flip(0)) == pytest.approx(0, abs=1e-6)
