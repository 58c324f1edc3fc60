"""Distances, against loops and closed forms written from the papers in NumPy and SciPy."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel
from sklearn.preprocessing import normalize

from acdit.metrics import feature_sets
from acdit.metrics.distances import cmmd, frechet, kernel_distance, sliced_wasserstein
from acdit.metrics.inception_score import inception_score
from acdit.metrics.neighbours import copied_share, coverage_density, nearest_ratio, precision_recall
from acdit.utils.errors import UserError
from tests.metrics.clouds import cloud

METRICS = (
    *(frechet, kernel_distance, cmmd, sliced_wasserstein, coverage_density, precision_recall, copied_share),
    lambda a, b: nearest_ratio(a, a, b),
)


def test_frechet_is_the_closed_form_of_two_gaussians():
    a, b = cloud(200, 1), cloud(150, 2)
    x, y = a.double().numpy(), b.double().numpy()
    first, second = np.cov(x.T), np.cov(y.T)
    root = np.real(scipy.linalg.sqrtm(first @ second))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    assert expected > 1
    assert frechet(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_a_moved_set_is_the_squared_move():
    a = cloud(100, 3).double()
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet(a, a + torch.tensor([3.0, 0, 0, 0, 4.0, 0])) == pytest.approx(25, abs=1e-6)


@pytest.mark.parametrize("chunk", [7, 1024])
def test_the_kernel_distance_is_the_unbiased_estimate(chunk, monkeypatch):
    monkeypatch.setattr(feature_sets, "CHUNK", chunk)
    a, b = cloud(40, 1), cloud(30, 2)
    x, y = a.double().numpy(), b.double().numpy()
    own = []
    for rows in (x, y):
        kernel = polynomial_kernel(rows, degree=3, gamma=1 / rows.shape[1], coef0=1)
        own.append((kernel.sum() - np.trace(kernel)) / (len(rows) * (len(rows) - 1)))
    expected = sum(own) - 2 * polynomial_kernel(x, y, degree=3, gamma=1 / x.shape[1], coef0=1).mean()
    assert expected > 0.1
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert kernel_distance(a, b) == pytest.approx(kernel_distance(b, a))


def test_the_kernel_distance_of_one_distribution_is_zero_on_average():
    points = cloud(4000, 3).split(20)
    values = torch.tensor([kernel_distance(a, b) for a, b in zip(points[::2], points[1::2], strict=True)])
    assert values.min() < 0 < values.max()  # unbiased, so some estimates are below zero
    assert abs(values.mean()) < 3 * values.std() / len(values) ** 0.5


def test_cmmd_compares_unit_vectors_with_a_gaussian_kernel(monkeypatch):
    monkeypatch.setattr(feature_sets, "CHUNK", 7)
    a, b = cloud(40, 1), cloud(30, 2)
    x, y = (normalize(part.double().numpy()) for part in (a, b))
    gamma = 1 / 200  # 1 / (2 * 10^2)
    expected = rbf_kernel(x, gamma=gamma).mean() + rbf_kernel(y, gamma=gamma).mean()
    expected = 1000 * (expected - 2 * rbf_kernel(x, y, gamma=gamma).mean())
    assert expected > 1
    assert cmmd(a, b) == pytest.approx(expected, rel=1e-6)
    assert cmmd(a, 3 * a) == pytest.approx(0, abs=1e-9)


def test_the_sliced_distance_in_one_dimension_is_that_of_sorted_values():
    a, b = cloud(40, 1, width=1), cloud(40, 2, width=1)
    expected = 3 * np.mean((np.sort(a.double().numpy(), 0) - np.sort(b.double().numpy(), 0)) ** 2)
    assert expected > 0.1
    assert sliced_wasserstein(a, b) == pytest.approx(expected, rel=1e-12)


def test_the_sliced_distance_is_a_mean_over_random_directions():
    a, b = cloud(40, 1), cloud(40, 2)
    directions = np.random.default_rng(0).normal(size=(20_000, 6))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    x, y = (np.sort(part.double().numpy() @ directions.T, axis=0) for part in (a, b))
    expected = 3 * 6 * ((x - y) ** 2).mean()
    # of one direction the error is about as large as the mean, of 10,000 a hundredth
    assert sliced_wasserstein(a, b, projections=10_000) == pytest.approx(expected, rel=0.05)
    assert sliced_wasserstein(a, b, seed=1) != sliced_wasserstein(a, b, seed=2)
    assert sliced_wasserstein(a, a[torch.randperm(40)]) == pytest.approx(0, abs=1e-12)
    move = torch.tensor([3.0, 0, 0, 0, 4.0, 0]).double()  # the projections move by 25 / 6 in square
    moved = sliced_wasserstein(a.double(), a.double() + move, projections=10_000)
    assert moved == pytest.approx(3 * 25, rel=0.05)


def test_the_sliced_distance_needs_sets_of_one_size():
    for a, b in ((cloud(8, 1), cloud(9, 1)), (cloud(9, 1), cloud(8, 1)), (cloud(8, 1)[:0], cloud(8, 1)[:0])):
        with pytest.raises(UserError, match=r"at least \d, 6"):
            sliced_wasserstein(a, b)


def test_the_inception_score_is_the_exponential_of_the_divergence():
    logits = 3 * torch.randn(53, 7, generator=torch.Generator().manual_seed(0))
    expected = []
    for part in range(5):
        rows = logits[53 * part // 5 : 53 * (part + 1) // 5].double().softmax(1).numpy()
        divergences = scipy.stats.entropy(rows, rows.mean(0, keepdims=True), axis=1)
        expected.append(np.exp(divergences.mean()))
    assert inception_score(logits, splits=5) == pytest.approx((np.mean(expected), np.std(expected)))
    certain = 1000 * torch.eye(7).repeat(10, 1)  # every class equally often, without doubt
    assert inception_score(certain, splits=10) == pytest.approx((7, 0))
    assert inception_score(torch.zeros(20, 7)) == pytest.approx((1, 0))


def test_bad_sets_are_errors():
    good = cloud(8, 1)
    broken = good.clone()
    broken[3, 2] = torch.nan
    for bad, message in (
        (good[:, :5], r"\(at least \d, 6\), not \(8, 5\)"),
        (good[0], "not \\(6,\\)"),
        (good[:0], "not \\(0, 6\\)"),
        (broken, "not finite"),
    ):
        for call in METRICS:
            with pytest.raises(UserError, match=message):
                call(good, bad)
    with pytest.raises(UserError, match=r"at least 6"):
        coverage_density(good[:5], good)
