"""Inception score of class logits."""

from itertools import pairwise

import torch
from torch import Tensor

from .feature_sets import check_features


def inception_score(logits: Tensor, splits: int = 10) -> tuple[float, float]:
    """Return mean and standard deviation, over parts of the set, of the Inception score (arXiv 1606.03498).

    The score of a part is the exponential of the mean divergence of the class probabilities of an item from
    those of the part; it lies between 1 and the number of classes. The parts are consecutive items, as in the
    original code, so the items must not be sorted by class.

    Args:
        logits: logits of the classes, (N, K).
        splits: number of parts; the items beyond a multiple of it belong to the last parts.

    Raises:
        UserError: if there are fewer items than parts, or a logit is not finite.
    """
    check_features(splits, logits)
    bounds = [len(logits) * part // splits for part in range(splits + 1)]
    scores = []
    for first, last in pairwise(bounds):
        log_probabilities = logits[first:last].double().log_softmax(dim=1)
        mean = log_probabilities.exp().mean(dim=0)
        divergence = log_probabilities.exp() * (log_probabilities - mean.log())
        scores.append(divergence.sum(dim=1).mean().exp())
    values = torch.stack(scores)
    return float(values.mean()), float(values.std(correction=0))
