"""Checks of sets of features."""

import torch

from ..utils.errors import UserError


def check_features(min_rows: int, *sets: torch.Tensor) -> None:
    """Raise UserError unless every set is finite, of shape (N, F) with one F, and has `min_rows` rows."""
    for rows in sets:
        if rows.ndim != 2 or len(rows) < min_rows or rows.shape[1] != sets[0].shape[1]:
            expected = f"(at least {min_rows}, {sets[0].shape[-1]})"
            raise UserError(f"a set of features must be of shape {expected}, not {tuple(rows.shape)}")
        if not rows.isfinite().all():
            raise UserError("a set of features contains values that are not finite")
