"""Checks of sets of features, and their parts."""

from collections.abc import Iterator

import torch

from ..utils.errors import UserError
from ..utils.finite import is_finite
from ..utils.progress_bar import ProgressBar

CHUNK = 256  # rows that are compared with another set at a time


def check_features(min_rows: int, *sets: torch.Tensor) -> None:
    """Raise UserError unless every set is finite, of shape (N, F) with one F, and has `min_rows` rows."""
    for rows in sets:
        if rows.ndim != 2 or len(rows) < min_rows or rows.shape[1] != sets[0].shape[1]:
            expected = f"(at least {min_rows}, {sets[0].shape[-1]})"
            raise UserError(f"a set of features must be of shape {expected}, not {tuple(rows.shape)}")
        if not is_finite(rows):
            raise UserError("a set of features contains values that are not finite")


def chunks(rows: torch.Tensor, description: str = "") -> Iterator[torch.Tensor]:
    """Yield the rows of a set in float64, `CHUNK` at a time, so that a large set is never copied as a whole.

    Args:
        rows: features (N, F).
        description: text of a progress bar that appears if it takes long; empty = no progress bar.
    """
    parts = rows.split(CHUNK)
    if description:
        parts = ProgressBar(parts, desc=description, unit="part", delay=3, leave=False)
    for part in parts:
        yield part.double()
