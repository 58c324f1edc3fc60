"""Distances between the distributions of two sets of features, (N, F) and (M, F). Pure functions.

All of these metrics depend on the sizes of the sets: compare only values computed at the same sizes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..utils.errors import require
from ..utils.randomness import generator
from .feature_sets import check_features

CHUNK = 1024  # rows of a kernel matrix that are in memory at a time
DIRECTIONS = 64  # directions of projections that are in memory at a time
CMMD_BANDWIDTH = 10.0  # of the Gaussian kernel
CMMD_SCALE = 1000.0  # so that values are easy to read
PROJECTIONS = 1000

Kernel = Callable[[Tensor, Tensor], Tensor]  # (n, F), (m, F) -> (n, m)


def frechet(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the Fréchet distance of Gaussians fitted to features (N, F) and (M, F), in float64."""
    check_features(2, a, b)
    identity = nn.Identity()
    identity.num_features = a.shape[1]  # pyright: ignore[reportArgumentType] (torchmetrics requires it)
    metric = require("torchmetrics.image.fid", "eval").FrechetInceptionDistance(feature=identity)
    metric.update(a.double(), real=True)
    metric.update(b.double(), real=False)
    return float(metric.compute())


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Return the kernel distance of features (N, F) and (M, F), in float64; KID for Inception features.

    This is the unbiased estimate of the squared maximum mean discrepancy for the kernel (x y / F + 1)^3
    (arXiv 1801.01401). All pairs are used; the usual mean over random subsets has the same expectation.
    """
    check_features(2, a, b)
    width = a.shape[1]

    def cubic(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / width + 1) ** 3

    return _discrepancy(a.double(), b.double(), cubic, unbiased=True)


def cmmd(a: Tensor, b: Tensor) -> float:
    """Return the maximum mean discrepancy with a Gaussian kernel of features (N, F) and (M, F), in float64.

    With CLIP's image embeddings it is the CMMD (arXiv 2401.09603): the features are normalised to unit
    length, the bandwidth is 10, pairs of an item with itself are included, and the value is multiplied by
    1,000.
    """
    check_features(1, a, b)

    def gaussian(x: Tensor, y: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(x, y).square() / (2 * CMMD_BANDWIDTH**2))

    unit_a, unit_b = (nn.functional.normalize(rows.double(), dim=1) for rows in (a, b))
    return CMMD_SCALE * _discrepancy(unit_a, unit_b, gaussian, unbiased=False)


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
    for part in nn.functional.normalize(drawn, dim=1).to(a.device).split(DIRECTIONS):
        sorted_a, sorted_b = ((part @ rows.double().T).sort(dim=1).values for rows in (a, b))  # (P, N)
        total += float((sorted_a - sorted_b).square().sum())
    return 3 * width * total / (projections * count)


def _discrepancy(a: Tensor, b: Tensor, kernel: Kernel, unbiased: bool) -> float:
    """Return the squared maximum mean discrepancy; without pairs of an item with itself if unbiased."""
    own = 0.0
    for rows in (a, b):
        sums = sum(float(kernel(part, rows).sum()) for part in rows.split(CHUNK))
        if unbiased:
            sums -= sum(float(kernel(part, part).diagonal().sum()) for part in rows.split(CHUNK))
        own += sums / (len(rows) * (len(rows) - unbiased))
    cross = sum(float(kernel(part, b).sum()) for part in a.split(CHUNK))
    return own - 2 * cross / (len(a) * len(b))
