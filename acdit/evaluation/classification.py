"""Scores of classifiers of images: accuracy, calibration, confused classes, and accuracy by layer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import NamedTuple

import torch
from torch import Tensor

from ..metrics.classification import (
    BINS,
    Reliability,
    assigned_classes,
    class_ranks,
    confusion_matrix,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    wilson_interval,
)
from ..metrics.paired import t_quantile
from ..model.classifier import TIMESTEPS, ACDiTForImageClassification
from ..pipelines.classification import ACDiTImageClassificationPipeline
from ..utils.errors import UserError
from ..utils.ranks import ALONE, Ranks
from ..utils.resources import require_memory
from ..utils.settings import nearest
from .class_tables import LEVEL, TOP, accuracy_scores, class_tables, shown_names
from .labelled_data import LabelledData
from .model_evaluation import versions
from .report import Interval, Report, Score, Series, Table

SCORES = ("accuracy", f"top_{TOP}_accuracy", "negative_log_likelihood", "calibration_error")
FURTHER_ITEMS = "mean over further items of the same data"


@dataclass(frozen=True)
class ClassificationSettings:
    """Settings of the evaluation of a classifier.

    Attributes:
        count: number of samples, at even steps; None = all.
        batch: number of samples per call of the network.
        head: head whose scores are reported in full, for networks with probes; -1 = the last.
        timesteps: timesteps to which the input is noised, for classifiers of noised input; none = the
            timestep of the network alone.
        metrics: names of scores, see `SCORES`; None = all.
        ranks: processes that share the samples.
    """

    count: int | None = None
    batch: int = 64
    head: int = -1
    timesteps: tuple[float, ...] = ()
    metrics: Sequence[str] | None = None
    ranks: Ranks = ALONE


class HeadAnswers(NamedTuple):
    """Answers of all H heads of a classifier for N samples.

    Attributes:
        labels: class of each sample, (N,).
        ranks: rank of this class by each head, 0 = the most probable, (N, H).
        logits: logits of the chosen head, (N, K).
    """

    labels: Tensor
    ranks: Tensor
    logits: Tensor


def evaluate_classifier(
    pipeline: ACDiTImageClassificationPipeline, data: LabelledData, settings: ClassificationSettings
) -> Report:
    """Score a classifier on labelled images.

    Args:
        pipeline: pipeline of the classifier.
        data: images with the classes of the classifier, see `open_labelled`.
        settings: settings of the evaluation.

    Returns:
        A report with scores, a table of classes, the confusion matrix and the reliability curve.

    Raises:
        UserError: if a setting does not fit the classifier, no image can be read, or logits are not finite.
    """
    network, names = pipeline.classifier, pipeline.class_names
    wanted = chosen_scores(settings.metrics, len(names))
    settings = replace(settings, head=checked_head(network, settings.head))
    check_timesteps(network, settings.timesteps)
    data = data.spread(settings.count)
    answers = _answers(pipeline, data, settings)
    scores = [score for score in _scores(answers) if score.metric in wanted]
    curve = reliability(answers.logits, answers.labels)
    confusion = confusion_matrix(assigned_classes(answers.logits), answers.labels, len(names))
    several = len(network.heads) > 1
    notes = list(data.notes)
    if several:
        notes.append(f"the scores are those of head {settings.head}, {head_name(network, settings.head)}")
    if settings.timesteps:
        notes.append(f"the heads were trained at timestep {network.config['timestep']:g}")
    return Report(
        tuple(scores),
        (*_layer_series(network, answers), *_timestep_series(pipeline, data, settings, answers)),
        settings={
            "classes": shown_names(names),
            "head": settings.head,
            "layer": network.layers[settings.head],
            "pooling": _pooling(network, settings.head),
            "attention": network.config["attention"],
            "timestep": network.config["timestep"],
            "bins": BINS,
        },
        samples=data.samples.describe(),
        versions=versions(),
        notes=tuple(notes),
        tables=(
            *([_head_table(network, answers)] if several else []),
            *class_tables(confusion, names),
            _reliability_table(curve),
        ),
    )


def chosen_scores(names: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    """Return the names of the scores that are reported.

    Args:
        names: names of scores; None = all that there are for this number of classes.
        classes: number of classes.

    Raises:
        UserError: if there is no such score, or none is named.
    """
    if names is None:
        return SCORES
    if not names:
        raise UserError(f"no metric is named; there are {', '.join(SCORES)}")
    for name in names:
        if name not in SCORES:
            raise UserError(
                f"unknown metric {name!r} of classifiers; did you mean {nearest(name, SCORES)[0]}? There are "
                f"{', '.join(SCORES)}"
            )
        if name.startswith("top") and classes <= TOP:
            raise UserError(f"the metric {name} needs more than {TOP} classes, but the model has {classes}")
    return tuple(names)


def checked_head(network: ACDiTForImageClassification, head: int) -> int:
    """Return the index of a head from the first one on.

    Raises:
        UserError: if there is no such head.
    """
    count = len(network.heads)
    if not -count <= head < count:
        known = ", ".join(f"{row} ({head_name(network, row)})" for row in range(min(count, 8)))
        raise UserError(f"there is no head {head}: the model has {count}, {known}")
    return head % count


def check_timesteps(network: ACDiTForImageClassification, timesteps: Sequence[float]) -> None:
    """Raise UserError if timesteps are given that a classifier does not take."""
    if timesteps and network.config["timestep"] is None:
        raise UserError("timesteps are for classifiers of noised input, but this one reads clean images")
    for timestep in timesteps:
        if not 0 <= timestep < TIMESTEPS:
            raise UserError(f"timesteps must lie from 0 to below {TIMESTEPS}, not {timestep:g}")


def head_name(network: ACDiTForImageClassification, head: int) -> str:
    """Return the layer and the pooling of a head in words."""
    return f"{_pooling(network, head)} pooling of layer {network.layers[head]}"


def _pooling(network: ACDiTForImageClassification, head: int) -> str:
    pooling = network.config["pooling"]
    return pooling if isinstance(pooling, str) else pooling[head]


def _answers(
    pipeline: ACDiTImageClassificationPipeline,
    data: LabelledData,
    settings: ClassificationSettings,
    timestep: float | None = None,
) -> HeadAnswers:
    """Return the answers for all samples that can be read, on all ranks, with input of a timestep."""
    network, count, ranks = pipeline.classifier, len(data.samples), settings.ranks
    heads, classes = len(network.heads), network.config["num_labels"]
    require_memory(
        count * (4 * classes + 8 * heads),
        f"the answers of {heads} heads for {count:,} images",
        "evaluate fewer images with --count",
    )
    logits, positions = torch.zeros(count, classes), torch.zeros(count, heads, dtype=torch.long)
    read = torch.zeros(count, dtype=torch.long)
    with ranks.failing_together():
        for rows, pixels in data.batches(settings.batch, ranks, "classes of images"):
            answer = pipeline.logits(pixels, timestep).float().cpu()  # (n, H, K)
            labels = data.labels[rows]
            ranked = class_ranks(answer.flatten(0, 1), labels.repeat_interleave(heads))
            positions[rows] = ranked.view(-1, heads)
            logits[rows] = answer[:, settings.head]
            read[rows] = 1
    kept = data.finish(read, ranks)
    for values in (logits, positions):
        ranks.total(values)
    return HeadAnswers(data.labels[kept], positions[kept], logits[kept])


def _scores(answers: HeadAnswers) -> list[Score]:
    """Return the scores of the chosen head, given its logits."""
    ranks, count = class_ranks(answers.logits, answers.labels), len(answers.labels)
    likelihood = negative_log_likelihood(answers.logits, answers.labels)
    interval = None
    if count > 1 and likelihood.error > 0:
        half = t_quantile(LEVEL, count - 1) * likelihood.error
        bounds = max(0.0, likelihood.value - half), likelihood.value + half
        interval = Interval(*bounds, LEVEL, FURTHER_ITEMS)
    calibration = expected_calibration_error(reliability(answers.logits, answers.labels))
    return [
        *accuracy_scores(ranks, answers.logits.shape[1]),
        Score("negative_log_likelihood", likelihood.value, samples=count, interval=interval),
        Score("calibration_error", calibration, samples=count),
    ]


def _accuracies(answers: HeadAnswers) -> list[float]:
    return (answers.ranks == 0).double().mean(dim=0).tolist()


def _head_table(network: ACDiTForImageClassification, answers: HeadAnswers) -> Table:
    """Return the accuracy of every head, with intervals."""
    count, rows = len(answers.labels), []
    for head, accuracy in enumerate(_accuracies(answers)):
        low, high = wilson_interval(accuracy, count, LEVEL)
        rows.append((head, network.layers[head], _pooling(network, head), accuracy, low, high))
    return Table("heads", ("head", "layer", "pooling", "accuracy", "low", "high"), tuple(rows))


def _layer_series(network: ACDiTForImageClassification, answers: HeadAnswers) -> list[Series]:
    """Return accuracy by layer, one series for each pooling that has heads at several layers."""
    values = _accuracies(answers)
    series = []
    for pooling in dict.fromkeys(_pooling(network, head) for head in range(len(values))):
        heads = [head for head in range(len(values)) if _pooling(network, head) == pooling]
        points = sorted((network.layers[head], values[head]) for head in heads)
        if len({layer for layer, _ in points}) > 1:
            layers, accuracies = zip(*points, strict=True)
            series.append(Series(f"accuracy_{pooling}", "layer", layers, accuracies))
    return series


def _timestep_series(
    pipeline: ACDiTImageClassificationPipeline,
    data: LabelledData,
    settings: ClassificationSettings,
    answers: HeadAnswers,
) -> list[Series]:
    """Return accuracy by timestep of the input, one series for each head, given those of the model's own."""
    if not settings.timesteps:
        return []
    network, timesteps = pipeline.classifier, tuple(sorted(set(settings.timesteps)))
    own = network.config["timestep"]
    columns = [
        _accuracies(answers if timestep == own else _answers(pipeline, data, settings, timestep))
        for timestep in timesteps
    ]
    return [
        Series(
            f"accuracy_{_pooling(network, head)}_layer_{network.layers[head]}",
            "timestep",
            timesteps,
            tuple(column[head] for column in columns),
        )
        for head in range(len(network.heads))
    ]


def _reliability_table(curve: Reliability) -> Table:
    """Return a reliability curve as a table, with the edges of its bins."""
    bins = len(curve.counts)
    rows = [
        (row / bins, (row + 1) / bins, count, *(None if isnan(value) else value for value in values))
        for row, (count, *values) in enumerate(zip(*(part.tolist() for part in curve), strict=True))
    ]
    return Table("reliability", ("from", "to", "count", "confidence", "accuracy"), tuple(rows), printed=False)
