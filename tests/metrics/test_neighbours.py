"""Metrics of nearest neighbours, against loops written from the papers in NumPy."""

import numpy as np
import pytest
import torch

from acdit.metrics import feature_sets
from acdit.metrics.neighbours import copied_share, coverage_density, nearest_ratio, precision_recall, spread
from tests.metrics.clouds import cloud


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("chunk", [7, 1024])
def test_coverage_and_density_are_the_papers(k, chunk, monkeypatch):
    monkeypatch.setattr(feature_sets, "CHUNK", chunk)
    real, fake = cloud(40, 4), cloud(30, 5) * 0.6 + cloud(40, 4)[:30] * 0.6
    x, y = real.double().numpy(), fake.double().numpy()
    covered = inside = 0
    for i in range(len(x)):
        radius = sorted(np.linalg.norm(x[i] - x[j]) for j in range(len(x)) if j != i)[k - 1]
        hits = [np.linalg.norm(x[i] - point) < radius for point in y]
        covered += any(hits)
        inside += sum(hits)
    coverage, density = coverage_density(real, fake, k)
    assert 0 < covered < len(x)
    assert coverage == covered / len(x)
    assert density == pytest.approx(inside / (k * len(y)))


def test_coverage_and_density_by_hand():
    real = torch.tensor([[0.0], [1.0], [3.0]])  # with k = 1 the radii are 1, 1 and 2
    fake = torch.tensor(
        [[0.5], [0.6], [9.0], [2.5]]
    )  # in the balls of 0 and 1, the same, in none, in that of 3
    assert coverage_density(real, fake, k=1) == (1.0, 5 / 4)
    assert coverage_density(real, fake[2:], k=1) == (1 / 3, 1 / 2)


def nearest(x: np.ndarray, y: np.ndarray, place: int = 0) -> np.ndarray:
    return np.array([sorted(np.linalg.norm(y - point, axis=1))[place] for point in x])


def test_nearest_ratio_compares_sets_of_one_size(monkeypatch):
    monkeypatch.setattr(feature_sets, "CHUNK", 7)
    samples, train, held_out = cloud(20, 6), cloud(60, 6), cloud(15, 7)
    cut = train[::4]  # even steps: 60 cut to 15
    x, y, z = (part.double().numpy() for part in (samples, cut, held_out))
    expected = nearest(x, y).mean() / nearest(x, z).mean()
    assert nearest_ratio(samples, train, held_out) == pytest.approx(expected)
    assert nearest_ratio(samples, held_out, train) == pytest.approx(1 / expected)


def test_nearest_ratio_of_fresh_points_is_one_and_of_copies_less():
    points = torch.randn(1500, 4, generator=torch.Generator().manual_seed(0))
    fresh, train, held_out = points.split(500)
    assert nearest_ratio(fresh, train, held_out) == pytest.approx(1, abs=0.05)
    assert nearest_ratio(train + 1e-3, train, held_out) < 0.05
    assert 1e6 < nearest_ratio(held_out, train, held_out) < float("inf")
    half = torch.cat([fresh[:250], train[:250]])
    assert nearest_ratio(half, train, held_out) == pytest.approx(0.5, abs=0.1)


def test_copied_share_counts_the_copies():
    points = torch.randn(300, 50, generator=torch.Generator().manual_seed(1))
    train, fresh = points.split(200)
    assert copied_share(fresh, train) == 0
    assert copied_share(torch.cat([fresh[:60], train[5:25] + 1e-3]), train) == 20 / 80
    ends = torch.tensor([[0.0], [4.0]])  # a copy lies less than a quarter of the way from one to the other
    assert copied_share(torch.tensor([[0.9], [1.1], [3.2], [2.0], [0.0]]), ends) == 3 / 5


def test_spread_takes_even_steps():
    assert spread(torch.arange(12), 4).tolist() == [0, 3, 6, 9]
    assert spread(torch.arange(10), 4).tolist() == [0, 2, 5, 7]
    assert spread(torch.arange(5), 5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_are_the_papers(k, monkeypatch):
    monkeypatch.setattr(feature_sets, "CHUNK", 7)
    real, fake = cloud(40, 4), cloud(30, 5) * 0.6 + cloud(40, 4)[:30] * 0.6
    x, y = real.double().numpy(), fake.double().numpy()

    def inside(points: np.ndarray, centres: np.ndarray) -> float:
        radii = [sorted(np.linalg.norm(centres - centre, axis=1))[k] for centre in centres]
        hits = [(np.linalg.norm(centres - point, axis=1) <= radii).any() for point in points]
        return sum(hits) / len(points)

    expected = inside(y, x), inside(x, y)
    assert 0 < expected[0] < 1 and 0 < expected[1] < 1 and expected[0] != expected[1]
    assert precision_recall(real, fake, k) == pytest.approx(expected)


def test_precision_and_recall_by_hand():
    real, fake = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[5.0], [5.5], [9.0], [-0.5]])
    # k = 1: balls of the real points reach from -1 to 5, those of the fakes from 4.5 to 12.5 and -6 to 5
    assert precision_recall(real, fake, k=1) == (2 / 4, 1.0)
    assert precision_recall(real, real, k=1) == (1.0, 1.0)
    assert precision_recall(real, real + 100, k=1) == (0.0, 0.0)
