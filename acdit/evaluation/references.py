"""Real data that samples are compared with: features in a cache, and statistics in files."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.tensor_cache import read_cached, write_cached
from ..metrics.statistics import Statistics
from ..utils.ranks import ALONE, Ranks
from .extraction import FeatureSet, extract_all
from .features.extractor import FeatureExtractor, FeatureInfo
from .sample_sources import open_samples_of
from .samples import Samples
from .stored_reference import StoredReference, is_stored_reference

CACHE_VERSION = 3  # increase it when the format of cached features, or what their names tell, changes
UNCACHED = ("pixels",)  # features that are as fast to compute as to read
VALUES, LOGITS, LABELS = "values", "logits", "labels"  # names of the tensors in the cache
COUNT, MEAN, COVARIANCE, PARTS = "count", "mean", "covariance", "parts"


def open_reference(
    source: str, *, size: int | None = None, channels: int | None = None
) -> Samples[Tensor] | StoredReference:
    """Open real data as a reference: a file of statistics, or any source of images or clips.

    Args:
        source: path or name of the source.
        size: side in pixels, see `open_samples_of`; a file of statistics has its own.
        channels: number of channels, likewise.

    Raises:
        UserError: see `StoredReference` and `open_samples_of`.
    """
    path = Path(source).expanduser()
    if is_stored_reference(path):
        return StoredReference(path)
    return open_samples_of(source, size=size, channels=channels)


def reference_features(
    samples: Samples[Any],
    extractors: Sequence[FeatureExtractor[Any]],
    batch: int = 64,
    ranks: Ranks = ALONE,
    *,
    statistics: bool = False,
) -> tuple[FeatureSet, ...]:
    """Return the features of real data as `extract_all` does, from the cache if they are in it.

    They are cached in ACDIT_CACHE under a digest of the data and of the description of the extractor, if a
    digest of the data is cheap, and no sample had to be left out.
    """
    names = [_cache_name(samples, extractor) if ranks.main else None for extractor in extractors]
    cached = [None if name is None else read_cached(name) for name in names]
    if not ranks.alone:
        cached = [_of_main(tensors, ranks) for tensors in cached]
    missing = [extractor for extractor, tensors in zip(extractors, cached, strict=True) if tensors is None]
    computed = iter(extract_all(samples, missing, batch, ranks, statistics=statistics) if missing else ())
    features = []
    for extractor, name, tensors in zip(extractors, names, cached, strict=True):
        if tensors is not None:
            features.append(_from_tensors(extractor.info, tensors))
            continue
        features.append(next(computed))
        if name is not None and not samples.unreadable:
            write_cached(name, _to_tensors(features[-1]))
    return tuple(features)


def stored_features(
    reference: StoredReference, extractor: FeatureExtractor[Any], batch: int = 64, ranks: Ranks = ALONE
) -> FeatureSet:
    """Return the features of an extractor that a file holds, or that are computed from its pictures.

    Raises:
        UserError: if the file holds features of another extractor.
    """
    of_pictures = None
    if reference.pictures is not None:
        (of_pictures,) = reference_features(reference.pictures, [extractor], batch, ranks)
    return reference.features(extractor, of_pictures)


def _cache_name(samples: Samples[Any], extractor: FeatureExtractor[Any]) -> str | None:
    """Return the name of the features in the cache; None if they are not cached."""
    if extractor.info.name in UNCACHED:
        return None
    facts = samples.describe()
    if "digest" not in facts:
        return None
    data = {key: facts.get(key) for key in ("digest", "count", "of", "items", "channels")}
    key = json.dumps([CACHE_VERSION, data, list(samples.shape), extractor.info.to_json()], sort_keys=True)
    return f"features-{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"


def _to_tensors(features: FeatureSet) -> dict[str, Tensor]:
    tensors = {VALUES: features.values, LOGITS: features.logits, LABELS: features.labels}
    tensors[PARTS] = torch.tensor(features.parts)
    if features.stored is not None:
        tensors |= {
            COUNT: torch.tensor(features.stored.count),
            MEAN: features.stored.mean,
            COVARIANCE: features.stored.covariance,
        }
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _from_tensors(info: FeatureInfo, tensors: dict[str, Tensor]) -> FeatureSet:
    statistics = None
    if COUNT in tensors:
        statistics = Statistics(int(tensors[COUNT]), tensors[MEAN], tensors[COVARIANCE])
    parts = int(tensors[PARTS])
    return FeatureSet(info, statistics, tensors[VALUES], tensors.get(LOGITS), tensors.get(LABELS), parts)


def _of_main(tensors: dict[str, Tensor] | None, ranks: Ranks) -> dict[str, Tensor] | None:
    """Return the tensors of the first rank, on all ranks."""
    own = None if tensors is None else {name: (one.dtype, one.shape) for name, one in tensors.items()}
    shapes = ranks.from_main(own)
    if shapes is None:
        return None
    if not ranks.main or tensors is None:
        tensors = {name: torch.empty(shape, dtype=dtype) for name, (dtype, shape) in shapes.items()}
    return {name: ranks.copied(tensors[name], 0) for name in shapes}
