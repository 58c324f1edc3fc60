"""Mixing of two images and their labels: mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899)."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..utils.randomness import seed_of
from .classifier_config import ClassifierConfig


class Rectangle(NamedTuple):
    """Rectangle of an image, in cells."""

    top: int
    bottom: int
    left: int
    right: int


class Mix(NamedTuple):
    """Recipe for mixing an image with another one.

    Attributes:
        weight: Weight of the image's own label; that of the other label is the rest.
        rectangle: Rectangle that the other image covers; None = both images are blended by the weight.
    """

    weight: float
    rectangle: Rectangle | None = None

    def __call__(self, image: Tensor, other: Tensor) -> Tensor:
        """Return the mixture of two images (C, H, W)."""
        if self.rectangle is None:
            return torch.lerp(other, image, self.weight)
        top, bottom, left, right = self.rectangle
        mixed = image.clone()
        mixed[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        return mixed


def draw_mix(
    config: ClassifierConfig, size: tuple[int, int], items: int, seed: int, epoch: int, index: int
) -> tuple[Mix, int]:
    """Draw how an item is mixed, and the index of the other one, as functions of seed, epoch and index.

    The other item is any of the data set, and not one of the same batch, so that it does not depend on how a
    batch is divided.

    Args:
        config: Configuration, with mixup or cutmix above 0.
        size: Height and width of the images.
        items: Number of items of the data set.
        seed: Seed of the run.
        epoch: Pass over the data set.
        index: Index of the item.
    """
    source = np.random.default_rng(seed_of(seed, "mix", epoch, index))
    other = int(source.integers(items))
    cuts = source.random() < 0.5 if config.mixup and config.cutmix else config.cutmix > 0
    alpha = config.cutmix if cuts else config.mixup
    weight = float(source.beta(alpha, alpha))
    if not cuts:
        return Mix(weight), other
    height, width = size
    rectangle = _rectangle(height, width, 1 - weight, source)
    area = (rectangle.bottom - rectangle.top) * (rectangle.right - rectangle.left)
    exact = 1 - area / (height * width)  # after rounding and clipping
    return Mix(exact, rectangle), other


def _rectangle(height: int, width: int, fraction: float, source: np.random.Generator) -> Rectangle:
    """Draw a rectangle that covers a fraction of an image, as far as it lies inside (section 3.2)."""
    side = math.sqrt(fraction)
    row, column = int(source.integers(height)), int(source.integers(width))
    rows, columns = round(height * side), round(width * side)
    top, left = row - rows // 2, column - columns // 2
    return Rectangle(max(top, 0), min(top + rows, height), max(left, 0), min(left + columns, width))


def soft_labels(labels: Tensor, others: Tensor, weights: Tensor, classes: int) -> Tensor:
    """Return the probabilities (N, classes) of labels (N,) with weights (N,), and of others with the rest."""
    first, second = (one_hot(each, classes).to(weights.dtype) for each in (labels, others))
    return torch.lerp(second, first, weights[:, None])
