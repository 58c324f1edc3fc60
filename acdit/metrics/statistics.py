"""Mean and covariance of features, and the Fréchet distance of two of them."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from .feature_sets import check_features


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
    def of(cls, features: Tensor) -> Self:
        """Return the statistics of features (N, F).

        Raises:
            UserError: if there are fewer than two items, or a value is not finite.
        """
        check_features(2, features)
        rows = features.double()
        return cls(len(rows), rows.mean(dim=0), rows.T.cov())
