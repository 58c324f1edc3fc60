"""Errors of metrics by resampling, against metrics of the resampled sets themselves."""

import pytest
import torch

from acdit.metrics import feature_sets, resampling
from acdit.metrics.distances import CMMD_SCALE, cmmd, cubic_kernel, frechet, gaussian_kernel, kernel_distance
from acdit.metrics.neighbours import coverage_density, precision_recall
from acdit.metrics.resampling import (
    basic_interval,
    coverage_errors,
    density_errors,
    frechet_errors,
    kernel_errors,
    precision_errors,
    recall_errors,
)
from acdit.metrics.statistics import Statistics, frechet_distance
from tests.metrics.clouds import cloud

SAMPLES, REFERENCE = cloud(40, 1) * 0.7 + cloud(40, 2) * 0.5, cloud(50, 2)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(feature_sets, "CHUNK", 7)
    monkeypatch.setattr(resampling, "RESAMPLES", 20)


def redrawn(samples: torch.Tensor) -> list[torch.Tensor]:
    counts = resampling._redrawn(len(samples), 3)
    assert counts.shape == (20, len(samples)) and (counts.sum(dim=1) == len(samples)).all()
    assert (counts > 1).any()
    return [samples.repeat_interleave(row.long(), dim=0) for row in counts]


def test_frechet_errors_are_those_of_the_redrawn_sets():
    covariance = torch.cov(SAMPLES.double().T, correction=0)  # of a population that consists of the samples
    population = Statistics(40, SAMPLES.double().mean(dim=0), covariance)
    reference = Statistics.of(REFERENCE)
    truth = frechet_distance(population, reference)
    expected = (
        torch.tensor([frechet(rows, REFERENCE) for rows in redrawn(SAMPLES)], dtype=torch.float64) - truth
    )
    assert expected.mean() > 0  # few samples: the distance is too large
    torch.testing.assert_close(frechet_errors(SAMPLES, reference, seed=3), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("unbiased", [True, False])
def test_kernel_errors_are_those_of_the_redrawn_sets(unbiased):
    sets = redrawn(SAMPLES)
    if unbiased:
        errors = kernel_errors(SAMPLES, REFERENCE, cubic_kernel, unbiased=True, seed=3)
        values = torch.tensor([kernel_distance(rows, REFERENCE) for rows in sets], dtype=torch.float64)
        # in a population that consists of the samples, an item may be paired with itself
        pairs = cubic_kernel(SAMPLES.double(), SAMPLES.double())
        truth = kernel_distance(SAMPLES, REFERENCE) + float(
            pairs.mean() - (pairs.sum() - pairs.trace()) / (40 * 39)
        )
    else:
        errors = CMMD_SCALE * kernel_errors(SAMPLES, REFERENCE, gaussian_kernel, unbiased=False, seed=3)
        values = torch.tensor([cmmd(rows, REFERENCE) for rows in sets], dtype=torch.float64)
        truth = cmmd(SAMPLES, REFERENCE)
    torch.testing.assert_close(errors, values - truth, rtol=1e-4, atol=1e-4 * float(values.std()))


@pytest.mark.parametrize("score", ["precision", "recall", "coverage", "density"])
def test_errors_of_neighbours_are_those_of_subsets(score):
    fraction = 0.9 if score == "coverage" else 0.5
    subsets = resampling._subsets(40, fraction, 3)
    kept = round(40 * fraction)
    assert (subsets.sum(dim=1) == kept).all() and subsets.any(dim=0).all()
    computed, values = {
        "precision": (
            precision_errors(SAMPLES, REFERENCE, 3, seed=3),
            [precision_recall(REFERENCE, SAMPLES[rows], 3)[0] for rows in subsets],
        ),
        "recall": (
            recall_errors(SAMPLES, REFERENCE, 3, seed=3),
            [precision_recall(REFERENCE, SAMPLES[rows], 3)[1] for rows in subsets],
        ),
        "coverage": (
            coverage_errors(SAMPLES, REFERENCE, 5, seed=3),
            [coverage_density(REFERENCE, SAMPLES[rows], 5)[0] for rows in subsets],
        ),
        "density": (
            density_errors(SAMPLES, REFERENCE, 5, seed=3),
            [coverage_density(REFERENCE, SAMPLES[rows], 5)[1] for rows in subsets],
        ),
    }[score]
    expected = torch.tensor(values, dtype=torch.float64)
    assert expected.std() > 0
    expected = (expected - expected.mean()) * (kept / (40 - kept)) ** 0.5
    torch.testing.assert_close(computed, expected, rtol=1e-5, atol=1e-6)


def test_the_errors_of_a_mean_have_its_standard_error(monkeypatch):
    monkeypatch.setattr(resampling, "RESAMPLES", 4000)
    terms = torch.rand(30, generator=torch.Generator().manual_seed(0)).double()
    errors = resampling._mean_errors(terms, 0)
    assert float(errors.std()) == pytest.approx(float(terms.std()) / 30**0.5, rel=0.05)


def test_the_basic_interval_turns_the_errors_around():
    errors = torch.linspace(-1, 3, 401).double()  # the value is too large by 1 on average
    assert basic_interval(10.0, errors, level=0.5) == pytest.approx((8, 10))
    assert basic_interval(10.0, errors) == pytest.approx((7.1, 10.9))
