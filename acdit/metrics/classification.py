"""Metrics of classifiers: accuracy, confusion, likelihood and calibration. Pure functions of tensors.

Classes with equal scores are ranked by their index, so that the result does not depend on the device, and a
classifier that gives all classes the same score has the accuracy of a constant answer.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from ..utils.errors import UserError
from ..utils.finite import is_finite

BINS = 15  # as in arXiv 1706.04599


class Mean(NamedTuple):
    """Mean over items, with its standard error.

    Attributes:
        value: the mean.
        error: standard error of the mean; NaN for a single item, except of accuracies.
    """

    value: float
    error: float


class ClassTable(NamedTuple):
    """Scores of each of K classes, in float64.

    Attributes:
        counts: number of items of the class, (K,).
        recall: fraction of the items of the class that are assigned to it, the accuracy on this class, (K,);
            NaN for a class without items.
        precision: fraction of the items assigned to the class that belong to it, (K,); NaN for a class that
            no item is assigned to.
    """

    counts: Tensor
    recall: Tensor
    precision: Tensor


class Reliability(NamedTuple):
    """Reliability curve: confidence and accuracy of the items in each of B bins of confidence, in float64.

    The confidence of an item is the probability of the class that it is assigned to.

    Attributes:
        counts: number of items in the bin, (B,).
        confidence: mean confidence, (B,); NaN for an empty bin.
        accuracy: fraction of the items that are assigned to their class, (B,); NaN for an empty bin.
    """

    counts: Tensor
    confidence: Tensor
    accuracy: Tensor


def class_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the rank of the class of each item among the classes, (N,): 0 if it has the highest score.

    Args:
        scores: scores of the classes, such as logits, (N, K).
        labels: class of each item, (N,).

    Raises:
        UserError: if the shapes do not fit, a label is no class, or a score is not finite.
    """
    _check(scores, labels)
    own = scores.gather(1, labels[:, None])  # (N, 1)
    earlier = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(dim=1)


def assigned_classes(scores: Tensor) -> Tensor:
    """Return the class with the highest score of each item, (N,); of several, the first."""
    highest = scores == scores.amax(dim=1, keepdim=True)
    return highest.int().argmax(dim=1)  # of the ones, argmax takes the first


def top_accuracy(scores: Tensor, labels: Tensor, k: int = 1) -> Mean:
    """Return the top-k accuracy, with its standard error sqrt(p (1 - p) / N).

    Args:
        scores: scores of the classes, such as logits, (N, K).
        labels: class of each item, (N,).
        k: number of classes with the highest scores among which that of the item counts as recognised.

    Raises:
        UserError: if k is not between 1 and the number of classes, or see `class_ranks`.
    """
    ranks = class_ranks(scores, labels)
    if not 1 <= k <= scores.shape[1]:
        raise UserError(f"top-{k} accuracy needs 1 <= k <= {scores.shape[1]}, the number of classes")
    accuracy = float((ranks < k).double().mean())
    return Mean(accuracy, math.sqrt(accuracy * (1 - accuracy) / len(labels)))


def wilson_interval(fraction: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of Wilson (1927) of a probability, given the fraction of successes.

    Unlike the normal interval, it covers probabilities near 0 and 1 about as often as its level says.

    Args:
        fraction: fraction of the trials that succeeded.
        count: number of trials.
        level: nominal coverage.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    shrunk = z**2 / count
    centre = (fraction + shrunk / 2) / (1 + shrunk)
    half = z / (1 + shrunk) * math.sqrt(fraction * (1 - fraction) / count + shrunk / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def confusion_matrix(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the number of items by class (rows) and assigned class (columns), (K, K) int64.

    Args:
        predicted: class that each item is assigned to, (N,).
        labels: class of each item, (N,).
        classes: number of classes, K.

    Raises:
        UserError: if the shapes differ, or a value is no class.
    """
    if predicted.ndim != 1 or predicted.shape != labels.shape:
        shapes = f"{tuple(predicted.shape)} and {tuple(labels.shape)}"
        raise UserError(f"assigned classes and labels must be (N,), not {shapes}")
    for name, values in (("assigned classes", predicted), ("labels", labels)):
        _check_classes(name, values, classes)
    return (labels * classes + predicted).bincount(minlength=classes**2).view(classes, classes)


def class_table(confusion: Tensor) -> ClassTable:
    """Return the scores of each class, given the confusion matrix (K, K)."""
    counts, predicted, right = confusion.sum(dim=1), confusion.sum(dim=0), confusion.diagonal().double()
    return ClassTable(counts, right / counts, right / predicted)


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> Mean:
    """Return the mean over items of -log p(class of the item), in nats, with its standard error.

    Args:
        logits: logits of the classes, (N, K).
        labels: class of each item, (N,).

    Raises:
        UserError: see `class_ranks`.
    """
    _check(logits, labels)
    losses = -logits.double().log_softmax(dim=1).gather(1, labels[:, None])[:, 0]
    error = float(losses.std()) / math.sqrt(len(losses)) if len(losses) > 1 else math.nan
    return Mean(float(losses.mean()), error)


def reliability(logits: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """Return the reliability curve over bins of confidence of equal width, ((b - 1) / B, b / B].

    Args:
        logits: logits of the classes, (N, K).
        labels: class of each item, (N,).
        bins: number of bins, B.

    Raises:
        UserError: if there is no bin, or see `class_ranks`.
    """
    _check(logits, labels)
    if bins < 1:
        raise UserError(f"a reliability curve needs at least 1 bin, not {bins}")
    confidence = logits.double().softmax(dim=1).amax(dim=1)
    right = (assigned_classes(logits) == labels).double()
    edges = torch.arange(1, bins, dtype=torch.float64, device=logits.device) / bins  # the inner ones
    rows = torch.bucketize(confidence, edges)  # a value on an edge belongs to the lower bin
    counts, *sums = (
        torch.zeros(bins, dtype=torch.float64, device=logits.device).index_add_(0, rows, values)
        for values in (torch.ones_like(confidence), confidence, right)
    )
    return Reliability(counts.long(), *(part / counts for part in sums))


def expected_calibration_error(curve: Reliability) -> float:
    """Return the expected calibration error of a reliability curve (arXiv 1706.04599, equation 3).

    It is the mean over items of the difference, without sign, of accuracy and mean confidence in the bin of
    the item. It depends on the bins, and for few items it is too large even if the probabilities are right.
    """
    filled = curve.counts > 0
    gaps = (curve.accuracy - curve.confidence).abs()[filled]
    return float((curve.counts[filled] * gaps).sum() / curve.counts.sum())


def _check(scores: Tensor, labels: Tensor) -> None:
    """Raise UserError unless scores (N, K) are finite and labels (N,) are classes."""
    if scores.ndim != 2 or not scores.numel() or labels.shape != scores.shape[:1]:
        raise UserError(
            f"scores must be (N, K) and labels (N,), not {tuple(scores.shape)} and {tuple(labels.shape)}"
        )
    if not is_finite(scores):
        raise UserError("scores of classes contain values that are not finite")
    _check_classes("labels", labels, scores.shape[1])


def _check_classes(name: str, values: Tensor, classes: int) -> None:
    if values.is_floating_point() or (
        values.numel() and not 0 <= int(values.min()) <= int(values.max()) < classes
    ):
        raise UserError(f"{name} must be whole numbers from 0 to {classes - 1}, the classes")
