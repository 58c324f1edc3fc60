"""Table of the metrics of samples by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..metrics.distances import cmmd, frechet, kernel_distance, sliced_wasserstein
from ..metrics.inception_score import inception_score
from ..metrics.neighbours import copied_share, coverage_density, nearest_ratio, precision_recall
from .extraction import FeatureSet
from .report import Better

K_COVERAGE, K_PRECISION = 5, 3  # numbers of neighbours (arXiv 2002.09797, 1904.06991)


@dataclass(frozen=True)
class Sets:
    """Feature sets that metrics compare, all of one extractor.

    Attributes:
        samples: generated samples.
        reference: real data that they are compared with; None for metrics without a reference.
        training: data that the model was trained on, for memorisation; None if they are not known.
        held_out: real data that it was not trained on, for memorisation; None if there are none.
    """

    samples: FeatureSet
    reference: FeatureSet | None = None
    training: FeatureSet | None = None
    held_out: FeatureSet | None = None


@dataclass(frozen=True)
class Metric:
    """Entry of the table of metrics.

    Attributes:
        scores: names of the scores that it gives, with the values that are better.
        compute: function of the sets and a seed that returns the value of each score.
        needs: sets and parts of them that must be there.
        least: least number of samples, and of reference items if there are any.
        interval: method of intervals; None if none is known to be right.
    """

    scores: tuple[tuple[str, Better], ...]
    compute: Callable[[Sets, int], tuple[float, ...]]
    needs: tuple[Literal["reference", "logits", "labels", "training", "held_out"], ...]
    least: int
    interval: Literal["bootstrap", "subsampling"] | None = None


def _frechet(sets: Sets, seed: int) -> tuple[float, ...]:
    del seed
    assert (
        sets.reference is not None and sets.samples.values is not None and sets.reference.values is not None
    )
    return (frechet(sets.samples.values, sets.reference.values),)


METRICS: dict[str, Metric] = {
    "frechet_distance": Metric((("frechet_distance", "lower"),), _frechet, ("reference",), 2, "bootstrap"),
}
_ = cmmd, kernel_distance, sliced_wasserstein, inception_score, copied_share, coverage_density, nearest_ratio
_ = precision_recall
