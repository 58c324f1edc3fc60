"""Features of whole sets of samples, computed by any number of ranks together."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..metrics.statistics import Statistics
from ..utils.errors import UserError
from ..utils.progress_bar import ProgressBar
from ..utils.ranks import ALONE, Ranks
from ..utils.resources import require_memory
from .features.extractor import FeatureExtractor, FeatureInfo, Features, checked_features
from .samples import Samples


@dataclass(frozen=True)
class FeatureSet:
    """Features of a set of samples.

    Attributes:
        info: description of the extractor.
        stored: mean and covariance of the features, if they are known already.
        values: features (N, F); None if only the statistics are known, as of stored references.
        logits: logits of classes (N, K); None if the extractor does not classify.
        labels: class of each item, (N,); None if there are none, or they are not those of the logits.
        parts: number of items of a sample, such as the frames of a clip, which are not independent.
    """

    info: FeatureInfo
    stored: Statistics | None = None
    values: Tensor | None = None
    logits: Tensor | None = None
    labels: Tensor | None = None
    parts: int = 1

    @cached_property
    def statistics(self) -> Statistics:
        """Return mean and covariance of the features, which are computed when they are first needed.

        Raises:
            UserError: if there are fewer than two items.
        """
        if self.stored is not None:
            return self.stored
        assert self.values is not None
        return Statistics.of(self.values)

    @property
    def width(self) -> int:
        """Return the number of features of an item, F."""
        if self.values is not None:
            return self.values.shape[1]
        return len(self.statistics.mean)

    def __len__(self) -> int:
        """Return the number of items; 0 if it is not known."""
        return self.statistics.count if self.values is None else len(self.values)


def extract(
    samples: Samples[Any],
    extractor: FeatureExtractor[Any],
    batch: int = 64,
    ranks: Ranks = ALONE,
    *,
    statistics: bool = False,
) -> FeatureSet:
    """Compute the features of all samples; see `extract_all`."""
    return extract_all(samples, [extractor], batch, ranks, statistics=statistics)[0]


def extract_all(
    samples: Samples[Any],
    extractors: Sequence[FeatureExtractor[Any]],
    batch: int = 64,
    ranks: Ranks = ALONE,
    *,
    statistics: bool = False,
) -> tuple[FeatureSet, ...]:
    """Compute the features of all samples by several extractors, reading every sample once.

    Rank r reads the batches r, r + R, .. of R ranks. Samples that cannot be read are left out, see `Samples`.

    Args:
        samples: set of samples.
        extractors: extractors of the features.
        batch: number of samples per call of an extractor.
        ranks: the processes that share the work; each gets the features of all samples.
        statistics: whether the ranks also compute means and covariances together, unless there are fewer
            items than features; otherwise each computes them when they are first needed.

    Raises:
        UserError: on all ranks, if no sample can be read, if the features do not fit into memory, or see
            `Samples.batches` and `FeatureExtractor`.
    """
    count = len(samples)
    names = ", ".join(extractor.info.name for extractor in extractors)
    with ranks.failing_together():
        _check_sizes(samples, batch)
    collected = [_Collected(extractor, count) for extractor in extractors]
    read = torch.zeros(count, dtype=torch.uint8)
    with ranks.failing_together():
        for rows, part in read_batches(samples, batch, f"{names} features", ranks, shown=ranks.main):
            for each in collected:
                each.add(rows, part)
            read[list(rows)] = 1
    for unreadable in ranks.gathered(samples.unreadable):
        samples.unreadable.update(unreadable)
    if not ranks.largest(read).any():
        name, reason = next(iter(samples.unreadable.items()), (samples.name, "it holds no samples"))
        raise UserError(f"{samples.name} holds no readable sample; first problem: {name}: {reason}")
    for each in collected:
        each.share(batch, ranks)
    kept = None if read.all() else read.bool()
    return tuple(each.feature_set(samples, kept, ranks, statistics) for each in collected)


def read_batches(
    samples: Samples[Any], size: int, description: str, ranks: Ranks = ALONE, *, shown: bool = True
) -> ProgressBar:
    """Return this rank's batches of samples with their indices, see `Samples.batches`, in a progress bar.

    Args:
        samples: the samples.
        size: number of samples of a batch.
        description: words beside the bar.
        ranks: processes that share the batches.
        shown: whether the bar is shown.
    """
    own = range(ranks.rank * size, len(samples), ranks.world_size * size)
    batches = samples.batches(size, ranks.rank, ranks.world_size)
    return ProgressBar(batches, description, len(own), unit="batch", delay=3, leave=False, disable=not shown)


def memory_of_one(extractor: FeatureExtractor[Any], sets: Iterable[Samples[Any]]) -> int:
    """Return the number of bytes that the features of a sample take; 0 if no set holds a readable sample.

    Args:
        extractor: extractor of the features.
        sets: sets of samples of one shape; the extractor computes the features of one of them.

    Raises:
        UserError: if the extractor does not support the samples, or its answer is not finite.
    """
    for samples in sets:
        for _, sample in samples.batches(1):
            one = _Collected(extractor, 1)
            one.add([0], sample)
            return 4 * sum(each.numel() for each in (one.values, one.logits) if each is not None)
    return 0


def _check_sizes(samples: Samples[Any], batch: int) -> None:
    """Raise UserError unless there are samples, and a batch of them fits into memory."""
    count, size = len(samples), min(batch, len(samples))
    if not count:
        raise UserError(f"{samples.name} holds no samples")
    require_memory(
        count + 12 * size * math.prod(samples.shape),
        f"{count:,} samples of {samples.name}, {size:,} at once,",
        "take fewer or smaller ones, or lower --batch",
    )


class _Collected:
    """Features of the samples that this rank has read, in memory for those of all ranks.

    Attributes:
        values: features (N, P, F) of P parts of each sample; None before the first batch.
        logits: logits (N, P, K); None if there are none.
    """

    def __init__(self, extractor: FeatureExtractor[Any], count: int) -> None:
        self.extractor, self.count = extractor, count
        self.values: Tensor | None = None
        self.logits: Tensor | None = None

    def add(self, rows: Sequence[int], part: Any) -> None:
        """Compute the features of a batch, the samples with the indices `rows`, and check them.

        Raises:
            UserError: if they are not finite, or not as many for each sample as before.
        """
        features = Features(*self.extractor(part))
        values = self._checked(features.values, len(rows), self.values, "features")
        logits = None
        if features.logits is not None:
            logits = self._checked(features.logits, len(rows), self.logits, "logits")
        if self.values is None:
            self._allocate(values.shape, None if logits is None else logits.shape)
        assert self.values is not None
        if (logits is None) != (self.logits is None):
            raise UserError(f"the features {self.extractor.info.name} have logits for some samples only")
        place = torch.tensor(rows)
        self.values[place] = values
        if self.logits is not None and logits is not None:
            self.logits[place] = logits

    def share(self, batch: int, ranks: Ranks) -> None:
        """Exchange the features with the other ranks.

        Raises:
            UserError: on all ranks, if these differ in the number of features.
        """
        if ranks.alone:
            return
        shapes = [None if one is None else tuple(one.shape) for one in (self.values, self.logits)]
        of_ranks = {tuple(each) for each in ranks.gathered(shapes) if each[0] is not None}
        if len(of_ranks) > 1:
            raise UserError(f"the features {self.extractor.info.name} are not as many for every sample")
        ((values, logits),) = of_ranks
        if self.values is None and values is not None:  # this rank has read nothing
            self._allocate(values, logits)
        for tensor in (self.values, self.logits):
            if tensor is not None:
                for number, rows in enumerate(tensor.split(batch)):
                    ranks.copied(rows, number % ranks.world_size)

    def feature_set(
        self, samples: Samples[Any], kept: Tensor | None, ranks: Ranks, statistics: bool
    ) -> FeatureSet:
        """Return the features of the samples that could be read; every part of a sample is an item."""
        assert self.values is not None
        values, logits, labels = self.values, self.logits, samples.labels
        if kept is not None:
            values, logits, labels = (None if one is None else one[kept] for one in (values, logits, labels))
            assert values is not None
        if logits is None or not self.extractor.classes or samples.label_names != self.extractor.classes:
            labels = None
        elif labels is not None:
            labels = labels.repeat_interleave(logits.shape[1])
        parts, values = values.shape[1], values.flatten(0, 1)
        return FeatureSet(
            self.extractor.info,
            Statistics.of(values, ranks) if statistics and len(values) > values.shape[1] else None,
            values,
            None if logits is None else logits.flatten(0, 1),
            labels,
            parts,
        )

    def _checked(self, output: Any, rows: int, before: Tensor | None, word: str) -> Tensor:
        """Return features or logits (n, P, F), after checking them."""
        name = f"the network of the {word} {self.extractor.info.name}"
        width = None if before is None else before.shape[2]
        if not isinstance(output, Tensor) or output.ndim < 3:
            checked = checked_features(output, name, rows, width)[:, None]
        else:
            parts = output.shape[1]
            checked = checked_features(output.flatten(0, 1), name, rows * parts, width)
            checked = checked.view(rows, parts, -1)
        if before is not None and checked.shape[1] != before.shape[1]:
            raise UserError(f"{name} must return as many {word} for every sample")
        return checked

    def _allocate(self, values: Sequence[int], logits: Sequence[int] | None) -> None:
        """Reserve memory for the features of all samples, given the shapes of those of a few.

        Raises:
            UserError: if they do not fit into memory.
        """
        shapes = [(self.count, *shape[1:]) for shape in (values, logits) if shape is not None]
        require_memory(
            4 * sum(map(math.prod, shapes)),
            f"the features {self.extractor.info.name} of {self.count:,} samples",
            "score fewer samples, or take other features",
        )
        self.values = torch.zeros(shapes[0])
        self.logits = torch.zeros(shapes[1]) if logits is not None else None
