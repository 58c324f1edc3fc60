"""Errors of metrics, estimated by resampling the samples while the reference is held fixed.

Every function returns the errors (R,) that a metric makes on resampled sets: its values there minus the value
that they estimate. Distances are computed on sets drawn with replacement. There, an item that is drawn twice
would be its own neighbour; therefore, metrics of neighbours use subsets, drawn without replacement.
"""

import torch
from torch import Tensor

from ..utils.progress_bar import ProgressBar
from ..utils.randomness import generator
from .distances import Kernel
from .feature_sets import check_features, chunks
from .neighbours import distances
from .statistics import Statistics, factor

RESAMPLES = 200  # number of resampled sets
MOST, HALF = 0.9, 0.5  # fractions of the samples in a subset
NEAREST = 64  # nearest items among which those of a subset hold the k-th nearest, for all k below about 20


def basic_interval(value: float, errors: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Return the basic interval of a value: the value minus the quantiles of its errors.

    Args:
        value: value of the metric.
        errors: errors of the metric on resampled sets, (R,).
        level: nominal coverage.
    """
    tail = (1 - level) / 2
    high, low = torch.quantile(errors, torch.tensor([tail, 1 - tail], dtype=errors.dtype)).tolist()
    return value - low, value - high


def frechet_errors(samples: Tensor, reference: Statistics, seed: int = 0) -> Tensor:
    """Return errors of the Fréchet distance of resampled samples (N, F) to the reference, (R,).

    The estimated value is the distance of a population that has the distribution of the samples. The errors
    have the bias of the distance, which is too large for few samples.
    """
    check_features(2, samples)
    count, mean = len(samples), torch.zeros(samples.shape[1], dtype=torch.float64)
    for rows in chunks(samples):
        mean += rows.sum(dim=0) / count
    root = factor(reference.covariance)

    def distance(weights: Tensor, divisor: int) -> float:
        total = torch.zeros_like(mean)
        products = torch.zeros_like(reference.covariance)
        kept = weights.nonzero().flatten()
        for rows, part in zip(chunks(samples[kept]), chunks(weights[kept][:, None]), strict=True):
            centred = rows - mean
            total += (part * centred).sum(dim=0)
            products.addmm_((part * centred).T, centred)
        shift = total / count
        covariance = (products - count * shift.outer(shift)) / divisor
        cross = torch.linalg.eigvalsh(root.T @ covariance @ root).clamp(min=0).sqrt().sum()
        move = (mean + shift - reference.mean).square().sum()
        return float(move + covariance.trace() + reference.covariance.trace() - 2 * cross)

    population = distance(torch.ones(count), count)
    weights = ProgressBar(_redrawn(count, seed), desc="resampling", unit="set", delay=3, leave=False)
    return torch.tensor([distance(row, count - 1) - population for row in weights], dtype=torch.float64)


def kernel_errors(
    samples: Tensor, reference: Tensor, kernel: Kernel, unbiased: bool, seed: int = 0
) -> Tensor:
    """Return errors of the kernel distance of resampled samples (N, F) to the reference (M, F), (R,).

    Args:
        samples: features of the samples.
        reference: features of the reference.
        kernel: kernel of the distance.
        unbiased: whether the distance leaves out pairs of an item with itself.
        seed: seed of the resampling.
    """
    check_features(2, samples, reference)
    count = len(samples)
    once = torch.ones(1, count, dtype=torch.float64)
    weights = torch.cat([once, _redrawn(count, seed)])  # (1 + R, N): the population, and the resampled sets
    pairs, itself, cross = torch.zeros(3, len(weights), dtype=torch.float64)
    compared = 0
    for x in chunks(samples, "resampling"):
        own = weights[:, compared : compared + len(x)]  # (1 + R, n)
        itself += own @ kernel(x, x).diagonal()
        cross += own @ sum((kernel(x, y).sum(dim=1) for y in chunks(reference)), torch.zeros(len(x)))
        first = compared
        for y in chunks(samples[compared:]):
            part = weights[:, first : first + len(y)]
            pairs += ((own @ kernel(x, y)) * part).sum(dim=1) * (1 if first == compared else 2)
            first += len(y)
        compared += len(x)
    cross *= 2 / (count * len(reference))
    population = pairs[0] / count**2 - cross[0]
    if unbiased:
        return (pairs[1:] - itself[1:]) / (count * (count - 1)) - cross[1:] - population
    return pairs[1:] / count**2 - cross[1:] - population


def precision_errors(samples: Tensor, reference: Tensor, k: int, seed: int = 0) -> Tensor:
    """Return errors of the precision of subsets of the samples (N, F), see `precision_recall`, (R,)."""
    check_features(k + 1, samples, reference)
    inside = torch.zeros(len(samples), dtype=torch.bool)
    for part in chunks(reference, "resampling"):
        radius = distances(part, reference).kthvalue(k + 1, dim=1, keepdim=True).values
        inside |= (distances(part, samples) <= radius).any(dim=0)
    return _mean_errors(inside.double(), seed)


def density_errors(samples: Tensor, reference: Tensor, k: int, seed: int = 0) -> Tensor:
    """Return errors of the density of subsets of the samples (N, F), see `coverage_density`, (R,)."""
    check_features(k + 1, reference)
    balls = torch.zeros(len(samples), dtype=torch.float64)  # number of balls that a sample lies in
    for part in chunks(reference, "resampling"):
        radius = distances(part, reference).kthvalue(k + 1, dim=1, keepdim=True).values
        balls += (distances(part, samples) < radius).sum(dim=0)
    return _mean_errors(balls / k, seed)


def coverage_errors(samples: Tensor, reference: Tensor, k: int, seed: int = 0) -> Tensor:
    """Return errors of the coverage of the reference by subsets of the samples (N, F), (R,).

    The subsets are nearly as large as the set, because coverage is far from proportional to their size.
    """
    check_features(k + 1, reference)
    subsets = _subsets(len(samples), MOST, seed).float()
    covered = torch.zeros(len(subsets), dtype=torch.float64)
    for part in chunks(reference, "resampling"):
        radius = distances(part, reference).kthvalue(k + 1, dim=1, keepdim=True).values
        within = (distances(part, samples) < radius).float()  # (n, N)
        covered += (subsets @ within.T > 0).sum(dim=1)
    return _scaled(covered / len(reference), subsets)


def recall_errors(samples: Tensor, reference: Tensor, k: int, seed: int = 0) -> Tensor:
    """Return errors of the recall of the reference by subsets of the samples (N, F), (R,).

    The subsets are halves of the set, because recall changes in jumps when single balls are removed. The k-th
    nearest sample of a half is looked for among the `NEAREST` nearest ones of all samples.
    """
    check_features(2 * (k + 1), samples, reference[:1].expand(2 * (k + 1), -1))
    subsets = _subsets(len(samples), HALF, seed)  # (R, N)
    radii = torch.full(subsets.shape, -1.0, dtype=torch.float64)  # no ball around samples of the others
    first = 0
    for part in chunks(samples, "resampling"):
        near = distances(part, samples).topk(
            min(NEAREST, len(samples)), largest=False
        )  # (n, L), itself included
        for subset, row in zip(subsets, radii, strict=True):
            place = (subset[near.indices].cumsum(dim=1) > k).int().argmax(dim=1, keepdim=True)  # (n, 1)
            own = slice(first, first + len(part))
            row[own] = torch.where(subset[own], near.values.gather(1, place)[:, 0], -1.0)
        first += len(part)
    inside = torch.zeros(len(subsets), dtype=torch.float64)
    for part in chunks(reference, "resampling"):
        apart = distances(part, samples)
        inside += torch.stack([(apart <= row).any(dim=1).sum() for row in radii])
    return _scaled(inside / len(reference), subsets)


def _mean_errors(terms: Tensor, seed: int) -> Tensor:
    """Return errors of the mean of terms (N,) of the samples."""
    subsets = _subsets(len(terms), HALF, seed)
    return _scaled(subsets.double() @ terms / subsets[0].sum(), subsets)


def _scaled(values: Tensor, subsets: Tensor) -> Tensor:
    """Return the deviations of the values of subsets (R, N), scaled to those of sets of N samples.

    The variance of a mean of m out of n items, drawn without replacement, is (1 / m - 1 / n) times that of an
    item; that of n items is 1 / n of it.
    """
    count, kept = subsets.shape[1], float(subsets[0].sum())
    return (values - values.mean()) * (kept / (count - kept)) ** 0.5


def _subsets(count: int, fraction: float, seed: int) -> Tensor:
    """Return which items random subsets of a set consist of, (R, N)."""
    random = generator(seed, "subsets")
    order = torch.rand(RESAMPLES, count, generator=random).argsort(dim=1)
    return order < round(fraction * count)


def _redrawn(count: int, seed: int) -> Tensor:
    """Return how often each item is drawn in sets of the same size, with replacement, (R, N) in float64."""
    random = generator(seed, "resampling")
    return torch.stack(
        [
            torch.randint(count, (count,), generator=random).bincount(minlength=count).double()
            for _ in range(RESAMPLES)
        ]
    )
