"""Features of whole sets of samples."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..metrics.statistics import Statistics
from ..utils.progress_bar import ProgressBar
from ..utils.ranks import ALONE, Ranks
from .features.extractor import FeatureExtractor, FeatureInfo
from .samples import Samples

Part = TypeVar("Part")


@dataclass(frozen=True)
class FeatureSet:
    """Features of a set of samples.

    Attributes:
        info: description of the extractor.
        statistics: mean and covariance of the features.
        values: features (N, F); None if only the statistics are known, as of stored references.
        logits: logits of classes (N, K); None if the extractor does not classify.
        labels: class of each sample, (N,); None if there are none, or they are not those of the logits.
    """

    info: FeatureInfo
    statistics: Statistics
    values: Tensor | None = None
    logits: Tensor | None = None
    labels: Tensor | None = None

    def __len__(self) -> int:
        return self.statistics.count


def extract(
    samples: Samples[Part], extractor: FeatureExtractor[Part], batch: int = 64, ranks: Ranks = ALONE
) -> FeatureSet:
    """Compute the features of all samples, in batches, together with the other ranks.

    Args:
        samples: set of samples.
        extractor: extractor of the features.
        batch: number of samples per call of the extractor.
        ranks: the processes that share the work; each gets the features of all samples.

    Raises:
        UserError: see `Samples.batches` and `FeatureExtractor`.
    """
    del ranks
    parts = []
    total = -(-len(samples) // batch)
    for _, part in ProgressBar(
        samples.batches(batch), f"{extractor.info.name} features", total, unit="batch", delay=3, leave=False
    ):
        parts.append(extractor(part))
    values = torch.cat([part.values.flatten(0, -2) for part in parts])
    logits = [part.logits for part in parts if part.logits is not None]
    same_classes = bool(extractor.classes) and samples.label_names == extractor.classes
    return FeatureSet(
        extractor.info,
        Statistics.of(values),
        values,
        torch.cat(logits) if logits else None,
        samples.labels if same_classes else None,
    )
