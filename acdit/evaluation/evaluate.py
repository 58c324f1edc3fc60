"""Scores of samples: features x metric x reference."""

import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from .. import __version__
from ..model.layout import dims
from ..utils.errors import UserError
from ..utils.ranks import ALONE, Ranks
from ..utils.resources import require_memory
from .extraction import FeatureSet, extract, memory_of_one
from .features.extractor import FeatureExtractor, FeatureInfo
from .features.table import open_extractor
from .intervals import interval_of
from .metric_table import METRICS, NEEDS, Metric, Sets, chosen_metrics
from .references import reference_features, stored_features
from .report import Report, Score
from .samples import Drawable, Samples, StoredSamples
from .stored_reference import StoredReference

NO_REAL_DATA = "no values of real data: they need other real data than the reference, as many as the samples"

NO_INTERVAL = "no interval is known to be right for"

Part = Samples[Any] | StoredReference | FeatureSet | None


def evaluate_samples(
    samples: Samples[Any],
    reference: Samples[Any] | StoredReference | FeatureSet | None,
    features: Sequence[str | FeatureExtractor[Any]],
    metrics: Sequence[str] | None = None,
    *,
    real: Samples[Any] | None = None,
    training: Samples[Any] | None = None,
    held_out: Samples[Any] | None = None,
    intervals: bool = False,
    seed: int = 0,
    batch: int = 64,
    device: torch.device | str = "cpu",
    ranks: Ranks = ALONE,
    trust: bool = False,
) -> Report:
    """Score samples against a reference, by metrics on features.

    `sliced_wasserstein` compares sets of one size: the larger one of samples and reference is cut at even
    steps, and the score states the numbers of items that it used.

    Args:
        samples: samples to score.
        reference: real data to compare them with, stored statistics of them, or their features; None = only
            metrics that need none.
        features: names of extractors, see `EXTRACTORS`, or extractors.
        metrics: names of metrics, see `METRICS`, or of single scores; None = all whose needs are met.
        real: other real data, as many as samples, whose scores stand beside those of the samples. Beside the
            label accuracy stands that of the reference.
        training: data that the model was trained on, to find copies of them.
        held_out: real data that it was not trained on, for the ratio of distances; None = the reference.
        intervals: whether to compute intervals of the scores that have them.
        seed: seed of random directions and resampling.
        batch: number of samples per call of an extractor.
        device: device of the extractors.
        ranks: processes that share the work.
        trust: whether features may be programs, see `open_extractor`.

    Returns:
        A report with a score for each metric on each of the features.

    Raises:
        UserError: if a name is unknown, the sets do not fit each other or the metrics, or features cannot be
            computed.
    """
    wanted = chosen_metrics(metrics)
    parts: dict[str, Part] = {
        "samples": samples,
        "reference": reference,
        "training": training,
        "held_out": reference if held_out is None else held_out,
        "real": real,
    }
    _check_parts(parts, wanted if metrics is not None else ())
    if not features:
        raise UserError("no features are named")
    known = [name for name in ("training", "held_out") if _share_items(parts["real"], parts[name])]
    scores: list[Score] = []
    notes = [NO_REAL_DATA] if real is None and reference is not None else []
    if isinstance(reference, StoredReference):
        notes += reference.notes
    extractors = [
        open_extractor(item, samples.shape, torch.device(device), trust=trust)
        if isinstance(item, str)
        else item
        for item in features
    ]
    _check_extractors(extractors, reference)
    if isinstance(samples, Drawable):  # only now, when all that can be checked before is right
        with ranks.failing_together():
            _check_memory(parts, extractors)
        samples.draw(batch, ranks)
    together = not ranks.alone and "frechet_distance" in wanted  # otherwise computed when it is needed
    for extractor in extractors:
        features_of = _extract_parts(parts, extractor, batch, ranks, together)
        beside = features_of.pop("real", None)
        scores += _scores_of(
            Sets(**features_of),
            beside,
            known,
            wanted,
            named=metrics is not None,
            intervals=intervals,
            seed=seed,
        )
    if intervals:
        notes += _without_intervals(scores)
    if not scores:
        raise UserError(f"no metric can be computed: give {NEEDS['reference']}, or {NEEDS['training']}")
    return Report(
        tuple(scores),
        features={extractor.info.name: extractor.info.to_json() for extractor in extractors},
        settings={"seed": seed},
        samples=samples.describe(),
        reference={} if reference is None else _described(reference),
        versions={"acdit": __version__, "torch": torch.__version__, "python": platform.python_version()},
        notes=tuple(notes),
    )


def _scores_of(
    sets: Sets,
    beside: FeatureSet | None,
    known: Collection[str],
    wanted: Mapping[str, Sequence[str]],
    *,
    named: bool,
    intervals: bool,
    seed: int,
) -> list[Score]:
    """Return the scores of all metrics on the features of one extractor.

    Args:
        sets: the sets.
        beside: features of the real data whose scores stand beside those of the samples.
        known: names of the sets that hold some of these real data.
        wanted: names of the wanted scores by metric.
        named: whether the metrics were requested by name, so that each must be computed.
        intervals: whether to compute intervals.
        seed: seed of random directions and resampling.

    Raises:
        UserError: if a metric that was requested by name cannot be computed.
    """
    name, scores = sets.samples.info.name, []
    for key, score_names in wanted.items():
        metric = METRICS[key]
        obstacle = metric.obstacle(sets)
        if obstacle and named:
            raise UserError(f"the metric {key} on the features {name} needs {obstacle}")
        if obstacle or (not named and metric.features not in name):
            continue
        real_sets = _real_sets(metric, sets, beside, known)
        computed = [
            score for score in _scores(metric, sets, real_sets, name, seed) if score.metric in score_names
        ]
        scores += [_with_interval(score, sets, seed) for score in computed] if intervals else computed
    return scores


def _without_intervals(scores: Sequence[Score]) -> list[str]:
    """Return a note for each kind of features on the scores that have no interval."""
    metrics: dict[str | None, list[str]] = {}
    for score in scores:
        if score.interval is None:
            metrics.setdefault(score.features, []).append(score.metric)
    return [
        f"{NO_INTERVAL} {', '.join(names)} on {features} at these counts"
        for features, names in metrics.items()
    ]


def _check_parts(parts: Mapping[str, Part], metrics: Collection[str]) -> None:
    """Raise UserError if sets do not fit each other, or lack what metrics need, before features are computed.

    Args:
        parts: the sets by name.
        metrics: names of the metrics that were requested by name.
    """
    samples, real = parts["samples"], parts["real"]
    assert samples is not None
    if real is not None and real is parts["reference"]:
        raise UserError("the real data beside the samples must be other data than the reference")
    if real is not None and len(real) != len(samples):
        raise UserError(
            f"the real data beside the samples must be as many as these, {len(samples)}, not {len(real)}"
        )
    for name, part in parts.items():
        _check_shape(name, part, samples)
    for name in metrics:
        for need in METRICS[name].needs:
            if need in parts and parts[need] is None:
                raise UserError(f"the metric {name} needs {NEEDS[need]}")


def _check_shape(name: str, part: Part, samples: Part) -> None:
    """Raise UserError if a set holds images or clips of another size than the samples."""
    size, expected = (getattr(one, "shape", ()) for one in (part, samples))
    if size and expected and size[1:] != expected[1:]:  # grey beside colour is for the features to judge
        raise UserError(
            f"the {name} data are of {dims(size[1:])} pixels, but the samples of {dims(expected[1:])}: both "
            "must have the same size, and clips as many frames"
        )


def _check_extractors(extractors: Sequence[FeatureExtractor[Any]], reference: Part) -> None:
    """Raise UserError if features are named twice, or are not those of a stored reference."""
    names = [extractor.info.name for extractor in extractors]
    for extractor in extractors:
        if names.count(extractor.info.name) > 1:
            raise UserError(f"the features {extractor.info.name} are named twice")
        if isinstance(reference, StoredReference):
            reference.check(extractor.info)


def _check_memory(parts: Mapping[str, Part], extractors: Sequence[FeatureExtractor[Any]]) -> None:
    """Raise UserError if extractors do not support the real data, or their features do not fit into memory.

    Otherwise both would be noticed only after hours of sampling.
    """
    given = {id(part): part for part in parts.values() if part is not None}.values()
    sets = [part for part in given if not isinstance(part, StoredReference | FeatureSet)]
    count = sum(map(len, sets))
    for extractor in extractors:
        require_memory(
            count * memory_of_one(extractor, [part for part in sets if part is not parts["samples"]]),
            f"the features {extractor.info.name} of samples and real data, {count:,} items in all,",
            "score fewer samples, or take other features or metrics",
        )


def _extract_parts(
    parts: Mapping[str, Part], extractor: FeatureExtractor[Any], batch: int, ranks: Ranks, statistics: bool
) -> dict[str, FeatureSet]:
    """Return the features of all sets; those of a set that has several names are computed once.

    Those of real data may come from the cache, see `reference_features`.

    Raises:
        UserError: if stored features are those of another extractor, or the numbers of features differ.
    """
    features: dict[str, FeatureSet] = {}
    done: dict[int, FeatureSet] = {}
    for name, part in parts.items():
        if part is None:
            continue
        if id(part) not in done:
            if isinstance(part, FeatureSet):
                done[id(part)] = part
            elif isinstance(part, StoredReference):
                done[id(part)] = stored_features(part, extractor, batch, ranks)
            elif name == "samples":
                done[id(part)] = extract(part, extractor, batch, ranks, statistics=statistics)
            else:
                (done[id(part)],) = reference_features(part, [extractor], batch, ranks, statistics=statistics)
            _check_same(name, done[id(part)], extractor.info, features.get("samples"))
        features[name] = done[id(part)]
    return features


def _check_same(name: str, features: FeatureSet, info: FeatureInfo, samples: FeatureSet | None) -> None:
    """Raise UserError if the features of a set are not of the same kind as those of the samples."""
    own, expected = features.info.to_json(), info.to_json()
    different = [key for key in expected if own[key] != expected[key]]
    if different:
        values = (f"{key} {own[key]} instead of {expected[key]}" for key in different)
        raise UserError(
            f"the features of the {name} data are not those of the samples, {info.name}: "
            f"{', '.join(values)}; compute them again with the settings of the samples"
        )
    if samples is not None and features.width != samples.width:
        raise UserError(
            f"the {name} data have {features.width} features {info.name} each, but the samples have "
            f"{samples.width}: both must have the same size"
        )


def _share_items(part: Part, other: Part) -> bool:
    """Return whether two sets hold some of the same items."""
    return part is not None and (
        part is other or (isinstance(part, StoredSamples) and part.shares_items(other))
    )


def _real_sets(metric: Metric, sets: Sets, real: FeatureSet | None, known: Collection[str]) -> Sets | None:
    """Return the sets with real data in place of the samples; None if a metric cannot be computed on them.

    Args:
        metric: the metric.
        sets: the sets.
        real: features of the real data.
        known: names of the sets that hold some of the real data: each of those would be found again.
    """
    if metric.real == "reference":
        real = sets.reference
    if real is None or any(name in metric.needs for name in known):
        return None
    real_sets = replace(sets, samples=real)
    return None if metric.obstacle(real_sets) else real_sets


def _scores(metric: Metric, sets: Sets, real_sets: Sets | None, features: str, seed: int) -> list[Score]:
    """Return the scores of a metric, beside those of real data."""
    values = metric.compute(sets, seed)
    real_values = [None] * len(values) if real_sets is None else metric.compute(real_sets, seed)
    counts = metric.counts(sets)
    return [
        Score(name, value, features, real, better, *counts)
        for (name, better), value, real in zip(metric.scores, values, real_values, strict=True)
    ]


def _with_interval(score: Score, sets: Sets, seed: int) -> Score:
    return replace(score, interval=interval_of(score.metric, score.value, sets, seed))


def _described(reference: Samples[Any] | StoredReference | FeatureSet) -> dict[str, Any]:
    if isinstance(reference, FeatureSet):
        return {"name": "stored features", "count": len(reference)}
    return reference.describe()
