"""Distances between the distributions of two sets of features, (N, F) and (M, F). Pure functions.

All of these metrics depend on the sizes of the sets: compare only values computed at the same sizes.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..utils.progress_bar import ProgressBar
from ..utils.randomness import generator
from .feature_sets import check_features, chunks
from .statistics import Statistics, factor, frechet_distance

DIRECTIONS = 64  # directions of projections that are in memory at a time
CMMD_BANDWIDTH = 10.0  # of the Gaussian kernel
CMMD_SCALE = 1000.0  # so that values are easy to read
PROJECTIONS = 1000

Kernel = Callable[[Tensor, Tensor], Tensor]  # (n, F), (m, F) -> (n, m)


def frechet(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the Fréchet distance of Gaussians fitted to features (N, F) and (M, F), in float64.

    With Inception features it is the FID (arXiv 1706.08500).

    A set of fewer items than features is a factor of its covariance itself, so that the covariance, whose
    factors would take F^3 operations, is not needed.
    """
    check_features(2, a, b)
    if min(len(a), len(b)) > a.shape[1]:
        return frechet_distance(Statistics.of(a), Statistics.of(b))
    (mean_a, root_a), (mean_b, root_b) = _root(a), _root(b)
    cross = torch.linalg.svdvals(root_a.T @ root_b).sum()
    traces = root_a.square().sum() + root_b.square().sum()
    distance = float((mean_a - mean_b).square().sum() + traces - 2 * cross)
    return max(0.0, distance)  # of equal sets, rounding may leave less than 0


def _root(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (F,) of features (N, F), and a factor (F, N), or (F, rank), of their covariance."""
    if len(features) > features.shape[1]:
        statistics = Statistics.of(features)
        return statistics.mean, factor(statistics.covariance)
    rows = features.double()
    mean = rows.mean(dim=0)
    return mean, (rows - mean).T / math.sqrt(len(rows) - 1)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Return the kernel distance of features (N, F) and (M, F), in float64; KID for Inception features.

    This is the unbiased estimate of the squared maximum mean discrepancy for the kernel (x y / F + 1)^3
    (arXiv 1801.01401). All pairs are used; the usual mean over random subsets has the same expectation.
    """
    check_features(2, a, b)
    return discrepancy(a, b, cubic_kernel, unbiased=True)


def cubic_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return the kernel (x y / F + 1)^3 of features (N, F) and (M, F): (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def cmmd(a: Tensor, b: Tensor) -> float:
    """Return the maximum mean discrepancy with a Gaussian kernel of features (N, F) and (M, F), in float64.

    With CLIP's image embeddings it is the CMMD (arXiv 2401.09603): the features are normalised to unit
    length, the bandwidth is 10, pairs of an item with itself are included, and the value is multiplied by
    1,000.
    """
    check_features(1, a, b)
    return CMMD_SCALE * discrepancy(a, b, gaussian_kernel, unbiased=False)


def gaussian_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return the Gaussian kernel of bandwidth 10 of features (N, F) and (M, F), normalised: (N, M)."""
    unit_x, unit_y = (nn.functional.normalize(rows, dim=1) for rows in (x, y))
    return torch.exp(-torch.cdist(unit_x, unit_y).square() / (2 * CMMD_BANDWIDTH**2))


def sliced_wasserstein(a: Tensor, b: Tensor, projections: int = PROJECTIONS, seed: int = 0) -> float:
    """Return the scaled sliced Wasserstein distance of features (N, F) and (N, F), in float64.

    With Inception features it is MIND (arXiv 2605.06797): 3 F times the squared 2-Wasserstein distance of the
    projections onto a random direction, averaged over directions. In one dimension, the distance is that of
    the sorted values.

    Args:
        a: features.
        b: as many features.
        projections: number of random directions.
        seed: seed of the directions.

    Raises:
        UserError: if the sets are empty, not finite, or of different shapes.
    """
    check_features(len(a), a, b)
    check_features(max(1, len(b)), a)  # as many as in b
    count, width = a.shape
    drawn = torch.randn(projections, width, generator=generator(seed, "projections"), dtype=torch.float64)
    total = 0.0
    directions = nn.functional.normalize(drawn, dim=1).to(a.device).split(DIRECTIONS)
    for part in ProgressBar(directions, desc="projections", unit="part", delay=3, leave=False):
        sorted_a, sorted_b = (_projected(rows, part).sort(dim=1).values for rows in (a, b))  # (P, N)
        total += float((sorted_a - sorted_b).square().sum())
    return 3 * width * total / (projections * count)


def _projected(rows: Tensor, directions: Tensor) -> Tensor:
    """Project rows (N, F) onto directions (P, F): (P, N)."""
    return torch.cat([directions @ part.T for part in chunks(rows)], dim=1)


def discrepancy(a: Tensor, b: Tensor, kernel: Kernel, unbiased: bool) -> float:
    """Return the squared maximum mean discrepancy; without pairs of an item with itself if unbiased."""
    own = 0.0
    for rows in (a, b):
        own += own_sum(rows, kernel, with_itself=not unbiased) / (len(rows) * (len(rows) - unbiased))
    cross = sum(float(kernel(x, y).sum()) for x in chunks(a, "kernel") for y in chunks(b))
    return own - 2 * cross / (len(a) * len(b))


def own_sum(rows: Tensor, kernel: Kernel, with_itself: bool) -> float:
    """Return the sum of the kernel over the pairs of a set; those on both sides of the diagonal are equal."""
    total, compared = 0.0, 0
    for x in chunks(rows, "kernel"):
        block = kernel(x, x)
        total += float(block.sum()) - (0.0 if with_itself else float(block.diagonal().sum()))
        compared += len(x)
        total += 2 * sum(float(kernel(x, y).sum()) for y in chunks(rows[compared:]))
    return total
