"""Scores of samples: features x metric x reference."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch

from ..utils.errors import UserError
from ..utils.ranks import ALONE, Ranks
from .extraction import FeatureSet, extract
from .features.extractor import FeatureExtractor
from .features.table import open_extractor
from .metric_table import METRICS, Metric, Sets
from .report import Report, Score
from .samples import Samples

Part = TypeVar("Part")


def evaluate_samples(
    samples: Samples[Part],
    reference: Samples[Part] | None,
    features: Sequence[str | FeatureExtractor[Part]],
    metrics: Sequence[str] | None = None,
    *,
    real: Samples[Part] | None = None,
    training: Samples[Part] | None = None,
    held_out: Samples[Part] | None = None,
    intervals: bool = False,
    seed: int = 0,
    batch: int = 64,
    device: torch.device | str = "cpu",
    ranks: Ranks = ALONE,
) -> Report:
    """Score samples against a reference, by metrics on features.

    Args:
        samples: samples to score.
        reference: real data to compare them with; None = only metrics that need none.
        features: names of extractors, see `EXTRACTORS`, or extractors.
        metrics: names of metrics, see `METRICS`; None = all whose needs are met.
        real: other real data, as many as samples, whose scores stand beside those of the samples.
        training: data that the model was trained on, to find copies of them.
        held_out: real data that it was not trained on, for the ratio of distances; None = the reference.
        intervals: whether to compute intervals of the scores that have them.
        seed: seed of random directions and resampling.
        batch: number of samples per call of an extractor.
        device: device of the extractors.
        ranks: processes that share the work.

    Raises:
        UserError: if a name is unknown, the sets do not fit each other or the metrics, or features cannot be
            computed.
    """
    del intervals
    scores, infos = [], {}
    for item in features:
        extractor = (
            open_extractor(item, samples.shape, torch.device(device)) if isinstance(item, str) else item
        )

        def part(one: Samples[Any] | None, extractor: FeatureExtractor[Any] = extractor) -> FeatureSet | None:
            return None if one is None else extract(one, extractor, batch, ranks)

        extracted = extract(samples, extractor, batch, ranks)
        sets = Sets(extracted, part(reference), part(training), part(held_out))
        beside = part(real)
        infos[extractor.info.name] = extractor.info.to_json()
        for name in metrics or METRICS:
            metric = METRICS[name]
            missing = unmet(metric, sets)
            if missing and metrics:
                raise UserError(f"the metric {name} needs {missing}")
            if missing:
                continue
            values = metric.compute(sets, seed)
            real_values = (
                (None,) * len(values)
                if beside is None
                else metric.compute(Sets(beside, sets.reference, sets.training, sets.held_out), seed)
            )
            counts = len(samples), None if reference is None else len(reference)
            scores += [
                Score(score, value, extractor.info.name, real_value, better, *counts)
                for (score, better), value, real_value in zip(metric.scores, values, real_values, strict=True)
            ]
    return Report(
        tuple(scores),
        features=infos,
        settings={"seed": seed},
        samples=samples.describe(),
        reference={} if reference is None else reference.describe(),
    )


def unmet(metric: Metric, sets: Sets) -> str | None:
    """Return the first need of a metric that the sets do not meet; None if there is none."""
    present = {
        "reference": sets.reference,
        "training": sets.training,
        "held_out": sets.held_out,
        "logits": sets.samples.logits,
        "labels": sets.samples.labels,
    }
    return next((need for need in metric.needs if present[need] is None), None)
