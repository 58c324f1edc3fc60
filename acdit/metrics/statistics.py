"""Mean and covariance of features, and the Fréchet distance of two of them."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ..utils.errors import UserError
from ..utils.ranks import ALONE, Ranks
from ..utils.resources import require_memory
from .feature_sets import check_features, chunks


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance of a set of features, in float64.

    Attributes:
        count: number of items, N.
        mean: mean (F,).
        covariance: unbiased covariance (F, F).
    """

    count: int
    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor, ranks: Ranks = ALONE) -> Self:
        """Return the statistics of features (N, F).

        Args:
            features: the features; the same ones on all ranks.
            ranks: processes that share the computation; each gets the result.

        Raises:
            UserError: if there are fewer than two items, or a value is not finite.
        """
        check_features(2, features)
        width = features.shape[1]
        require_memory(
            2 * 8 * width**2,
            f"the covariance of {width:,} features",
            "take features of which there are fewer, or metrics without a covariance",
        )
        mean = torch.zeros(width, dtype=torch.float64, device=features.device)
        for rows in chunks(features):
            mean += rows.sum(dim=0) / len(features)
        covariance = torch.zeros(width, width, dtype=torch.float64, device=features.device)
        first, last = (len(features) * rank // ranks.world_size for rank in (ranks.rank, ranks.rank + 1))
        for rows in chunks(features[first:last], "covariance"):
            centred = rows - mean
            covariance.addmm_(centred.T, centred)
        ranks.total(covariance)
        return cls(len(features), mean, covariance / (len(features) - 1))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """Return the Fréchet distance of the Gaussians with two means and covariances, in float64.

    With Inception features it is the FID (arXiv 1706.08500).

    The trace of the square root of the product of the covariances is the sum of the singular values of the
    product of their factors. Unlike eigenvalues of the product of the covariances, they are exact to rounding
    even if a covariance is singular, as with fewer items than features.

    Raises:
        UserError: if the statistics have different numbers of features, or a value is not finite.
    """
    check_features(1, a.mean[None], b.mean[None], a.covariance, b.covariance)
    if {a.covariance.shape, b.covariance.shape} != {(len(a.mean), len(a.mean))}:
        raise UserError(
            f"covariances of {len(a.mean)} features must be square, not {tuple(a.covariance.shape)} and "
            f"{tuple(b.covariance.shape)}"
        )
    cross = torch.linalg.svdvals(factor(a.covariance).T @ factor(b.covariance)).sum()
    move = (a.mean - b.mean).square().sum()
    distance = float(move + a.covariance.trace() + b.covariance.trace() - 2 * cross)
    return max(0.0, distance)  # of equal sets, rounding may leave less than 0


def factor(covariance: Tensor) -> Tensor:
    """Return a matrix (F, rank) that gives the covariance when it is multiplied by its transpose."""
    values, vectors = torch.linalg.eigh(covariance)
    rounding = values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    kept = values > rounding
    return vectors[:, kept] * values[kept].sqrt()
