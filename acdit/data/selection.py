"""Choose the rows of a data set that are held out, and a fixed number of labelled samples per class."""

from collections.abc import Callable
from typing import Any

import torch

from ..utils.errors import UserError
from ..utils.names import NAMELESS
from ..utils.randomness import Key, seed_of
from .config import DataConfig


def chosen_rows(
    labels: torch.Tensor,
    label_names: tuple[str, ...],
    config: DataConfig,
    seed: int,
    *names: Callable[[int], Key],
) -> list[int] | None:
    """Return the rows of the samples that `data.labels_per_class` keeps, in ascending order.

    The samples of a class are sorted by a hash of the seed and their names, so that the choice depends
    neither on the order of the data nor on the other classes, and fewer labels are a part of more labels.

    Args:
        labels: class of each sample, (N,).
        label_names: names of the classes.
        config: configuration of the data.
        seed: seed of the choice.
        names: function that returns the name of a row, and further ones that tell rows of one name apart.

    Returns:
        Rows, or None if `data.labels_per_class` is not set and all samples are kept.

    Raises:
        UserError: if the data have no classes, or a class has fewer samples.
    """
    count = config.labels_per_class
    if count is None:
        return None
    check_counts(labels.bincount(minlength=len(label_names)).tolist(), label_names, config)
    rows: list[int] = []
    for label in range(len(label_names)):
        own = (labels == label).nonzero().flatten().tolist()
        own.sort(key=lambda row: [seed_of(seed, "labels per class", each(row)) for each in names])
        rows += own[:count]
    return sorted(rows)


def check_counts(counts: list[int], label_names: tuple[str, ...], config: DataConfig) -> None:
    """Check that every class has as many samples as `data.labels_per_class` asks for.

    Args:
        counts: number of samples of each class.
        label_names: names of the classes.
        config: configuration of the data.

    Raises:
        UserError: if the data have no classes, or a class has fewer samples.
    """
    wanted = config.labels_per_class
    if wanted is None:
        return
    if not label_names or label_names == NAMELESS:
        raise UserError(
            f"data.labels_per_class {wanted} needs classes, but {config.source} has none: leave it out"
        )
    fewest = min(range(len(counts)), key=lambda label: counts[label])
    if counts[fewest] < wanted:
        raise UserError(
            f"data.labels_per_class is {wanted}, but class {label_names[fewest]!r} of {config.source} has "
            f"{counts[fewest]} training samples: set it to at most {counts[fewest]}, or add samples"
        )


def divided_rows(
    labels: torch.Tensor, fraction: float, held_out: bool, key: Callable[[int], Any]
) -> list[int]:
    """Return the rows that are held out, or the others, in ascending order.

    The same fraction of every class is held out: at least one sample, but never all of them.

    Args:
        labels: class of each sample, (N,).
        fraction: fraction of the samples to hold out.
        held_out: whether to return the rows that are held out.
        key: function that returns the key of a row; the first rows of a class by this key are held out.
    """
    chosen: list[int] = []
    for label in labels.unique().tolist():
        rows = (labels == label).nonzero().flatten().tolist()
        rows.sort(key=key)
        count = min(len(rows) - 1, max(1, round(fraction * len(rows))))
        chosen += rows[:count] if held_out else rows[count:]
    return sorted(chosen)
