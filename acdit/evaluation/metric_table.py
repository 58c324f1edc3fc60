"""Table of the metrics of samples by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..metrics.distances import cmmd, frechet, kernel_distance, sliced_wasserstein
from ..metrics.inception_score import inception_score
from ..metrics.neighbours import copied_share, coverage_density, nearest_ratio, precision_recall, spread
from ..metrics.statistics import frechet_distance
from ..utils.errors import UserError
from ..utils.randomness import generator
from ..utils.settings import nearest
from .extraction import FeatureSet
from .report import Better

K_COVERAGE, K_PRECISION = 5, 3  # numbers of neighbours (arXiv 2002.09797, 1904.06991)
LITERATURE = {
    **dict.fromkeys(("fid", "fvd", "frechet"), "frechet_distance"),
    **dict.fromkeys(("kid", "mmd"), "kernel_distance"),
    **dict.fromkeys(("is", "inception"), "inception_score"),
    "mind": "sliced_wasserstein",
}  # names of metrics in papers, with those of the table
SPLITS = 10  # parts of the Inception score (arXiv 1606.03498)

Need = Literal["reference", "reference items", "training", "held_out", "logits", "labels"]
"""Set, or part of the set of samples, without which a metric cannot be computed."""

NEEDS: dict[Need, str] = {
    "reference": "a reference",
    "reference items": "the items of a reference, not their mean and covariance alone",
    "training": "the data that the model was trained on",
    "held_out": "held-out data, or a reference with its items",
    "logits": "features with logits of classes",
    "labels": "samples with labels of the classes that the features recognise",
}


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
        least: least number of items of each set.
        features: part of the name of the features on which it is computed without being requested by name.
        equal_counts: whether the larger one of samples and reference is cut to the size of the other.
        real: data in place of the samples that give the value of real data: other real data, or the reference
            itself for metrics that do not compare the samples with it.
    """

    scores: tuple[tuple[str, Better], ...]
    compute: Callable[[Sets, int], tuple[float, ...]]
    needs: tuple[Need, ...]
    least: Mapping[str, int] = field(default_factory=dict)
    features: str = ""
    equal_counts: bool = False
    real: Literal["real", "reference"] = "real"

    def counts(self, sets: Sets) -> tuple[int, int | None]:
        """Return the numbers of samples and of reference items that the metric uses."""
        uses_reference = "reference" in self.needs or "reference items" in self.needs
        if "logits" in self.needs and sets.samples.logits is not None:
            return len(sets.samples.logits), None  # of clips, whose frames may be the items
        if sets.reference is None or not uses_reference:
            return len(sets.samples), None
        counts = len(sets.samples), len(sets.reference)
        if self.equal_counts:
            return min(counts), min(counts)
        return counts[0], counts[1] or None  # None: the number is not known

    def obstacle(self, sets: Sets) -> str | None:
        """Return the first need that the sets do not meet, in words; None if they meet all."""
        parts = {
            "reference": sets.reference,
            "reference items": None if sets.reference is None else sets.reference.values,
            "training": None if sets.training is None else sets.training.values,
            "held_out": None if sets.held_out is None else sets.held_out.values,
            "logits": sets.samples.logits,
            "labels": sets.samples.labels,
        }
        for need in self.needs:
            if parts[need] is None:
                return NEEDS[need]
        for name, least in self.least.items():
            part: FeatureSet | None = getattr(sets, name)
            if part is not None and 0 < len(part) < least:  # 0: the number is not known
                items = {"samples": "samples", "reference": "items of the reference"}
                return f"at least {least} {items.get(name, f'items of {name} data')}, not {len(part)}"
        return None


def _frechet(sets: Sets, seed: int) -> tuple[float, ...]:
    del seed
    samples, reference = sets.samples, sets.reference
    assert reference is not None
    few = min(len(samples), len(reference)) <= samples.width  # then covariances cost more than the items
    # statistics of more than the items, as in published files, are those of the reference
    few = few and (reference.stored is None or reference.stored.count == len(reference))
    if few and samples.values is not None and reference.values is not None:
        return (frechet(samples.values, reference.values),)
    return (frechet_distance(samples.statistics, reference.statistics),)


def _kernel(sets: Sets, seed: int) -> tuple[float, ...]:
    del seed
    return (kernel_distance(*item_pair(sets)),)


def _cmmd(sets: Sets, seed: int) -> tuple[float, ...]:
    del seed
    return (cmmd(*item_pair(sets)),)


def _sliced(sets: Sets, seed: int) -> tuple[float, ...]:
    size = min(map(len, item_pair(sets)))
    samples, reference = (spread(rows, size) for rows in item_pair(sets))
    return (sliced_wasserstein(samples, reference, seed=seed),)


def _precision_recall(sets: Sets, seed: int) -> tuple[float, ...]:
    del seed
    samples, reference = item_pair(sets)
    return precision_recall(reference, samples, K_PRECISION)


def _coverage_density(sets: Sets, seed: int) -> tuple[float, ...]:
    del seed
    samples, reference = item_pair(sets)
    return coverage_density(reference, samples, K_COVERAGE)


def _inception_score(sets: Sets, seed: int) -> tuple[float, ...]:
    assert sets.samples.logits is not None
    order = torch.randperm(len(sets.samples.logits), generator=generator(seed, "inception score"))
    return inception_score(sets.samples.logits[order], SPLITS)  # the samples may be sorted by class


def _label_accuracy(sets: Sets, seed: int) -> tuple[float, ...]:
    del seed
    assert sets.samples.logits is not None and sets.samples.labels is not None
    hits = sets.samples.logits.argmax(dim=1) == sets.samples.labels.to(sets.samples.logits.device)
    return (float(hits.double().mean()),)


def _nearest_ratio(sets: Sets, seed: int) -> tuple[float, ...]:
    del seed
    return (nearest_ratio(items_of(sets.samples), items_of(sets.training), items_of(sets.held_out)),)


def _copied_fraction(sets: Sets, seed: int) -> tuple[float, ...]:
    del seed
    return (copied_share(items_of(sets.samples), items_of(sets.training)),)


def item_pair(sets: Sets) -> tuple[Tensor, Tensor]:
    """Return the features of samples and reference."""
    return items_of(sets.samples), items_of(sets.reference)


def items_of(features: FeatureSet | None) -> Tensor:
    """Return the features of a set that `Metric.obstacle` found to be there."""
    assert features is not None and features.values is not None
    return features.values


METRICS: dict[str, Metric] = {
    "frechet_distance": Metric(
        (("frechet_distance", "lower"),),
        _frechet,
        ("reference",),
        {"samples": 2, "reference": 2},
    ),
    "kernel_distance": Metric(
        (("kernel_distance", "lower"),),
        _kernel,
        ("reference", "reference items"),
        {"samples": 2, "reference": 2},
    ),
    "sliced_wasserstein": Metric(
        (("sliced_wasserstein", "lower"),),
        _sliced,
        ("reference", "reference items"),
        {"samples": 1, "reference": 1},
        equal_counts=True,
    ),
    "cmmd": Metric(
        (("cmmd", "lower"),),
        _cmmd,
        ("reference", "reference items"),
        {"samples": 1, "reference": 1},
        features="clip-vit",  # not clip-classifier
    ),
    "precision_recall": Metric(
        (("precision", "higher"), ("recall", "higher")),
        _precision_recall,
        ("reference", "reference items"),
        {"samples": K_PRECISION + 1, "reference": K_PRECISION + 1},
    ),
    "coverage_density": Metric(
        (("coverage", "higher"), ("density", "near real")),
        _coverage_density,
        ("reference", "reference items"),
        {"samples": 1, "reference": K_COVERAGE + 1},
    ),
    "inception_score": Metric(
        (("inception_score", "higher"), ("inception_score_deviation", "near real")),
        _inception_score,
        ("logits",),
        {"samples": SPLITS},
    ),
    "label_accuracy": Metric(
        (("label_accuracy", "higher"),),
        _label_accuracy,
        ("logits", "labels"),
        {"samples": 1},
        real="reference",
    ),
    "nearest_ratio": Metric(
        (("nearest_ratio", "near real"),),
        _nearest_ratio,
        ("training", "held_out"),
        {"samples": 1, "training": 1, "held_out": 1},
    ),
    "copied_fraction": Metric(
        (("copied_fraction", "near real"),),
        _copied_fraction,
        ("training",),
        {"samples": 1, "training": 2},
    ),
}


def chosen_metrics(names: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Return the metrics that names choose, with the names of their scores that are wanted.

    Args:
        names: names of metrics, or of scores such as `precision`; None = all metrics.

    Raises:
        UserError: if there is no such metric, or no name is given.
    """
    names = list(METRICS) if names is None else names
    if not names:
        raise UserError(f"no metric is named; there are {', '.join(METRICS)}")
    metric_of = {score: name for name, metric in METRICS.items() for score, _ in metric.scores}
    scores: dict[str, set[str]] = {}
    for name in names:
        if name not in METRICS and name not in metric_of:
            close = LITERATURE.get(name.lower()) or nearest(name, {**METRICS, **metric_of})[0]
            raise UserError(f"unknown metric {name!r}; did you mean {close}? There are {', '.join(METRICS)}")
        metric = name if name in METRICS else metric_of[name]
        scores.setdefault(metric, set()).update(
            [score for score, _ in METRICS[name].scores] if name in METRICS else [name]
        )
    return {
        metric: tuple(score for score, _ in METRICS[metric].scores if score in wanted)
        for metric, wanted in scores.items()
    }
