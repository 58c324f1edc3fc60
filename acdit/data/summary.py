"""Describe in one line what a data set holds."""

from collections.abc import Mapping

import torch

from ..utils.names import NAMELESS
from .dataset import LabelledDataset

LISTED = 8  # maximum number of classes that are listed


def summary(data: LabelledDataset, samples: str) -> str:
    """Return one line about the samples, classes and left-out files of a data set.

    Args:
        data: the data set.
        samples: word for its samples, in the plural, such as `images`.
    """
    counts = data.labels.bincount(minlength=len(data.label_names))
    return describe(samples, data.label_names, counts, data.skipped)


def describe(
    samples: str, label_names: tuple[str, ...], counts: torch.Tensor, skipped: Mapping[str, str]
) -> str:
    """Return a line such as "24 images, 2 classes: cat 12, dog 12; 1 skipped, such as a.txt (not an image)".

    Args:
        samples: word for the samples, in the plural.
        label_names: names of the classes; none, or `NAMELESS`, if there are no classes.
        counts: number of samples of each class, or of all, (C,).
        skipped: files that were left out, with the reasons.
    """
    text = _counted(int(counts.sum()), samples)
    if label_names and label_names != NAMELESS:
        listed = [
            f"{_printable(name)} {count:,}"
            for name, count in zip(label_names[:LISTED], counts.tolist(), strict=False)
        ]
        more = [f"... {_printable(label_names[-1])} {int(counts[-1]):,}"] if len(label_names) > LISTED else []
        text += f", {_counted(len(label_names), 'classes')}: {', '.join(listed + more)}"
    if skipped:
        name, reason = next(iter(skipped.items()))
        text += f"; {len(skipped):,} skipped, such as {_printable(name)} ({_printable(reason)})"
    return text


def _counted(count: int, plural: str) -> str:
    """Return a number with its noun."""
    singular = plural.removesuffix("es") if plural == "classes" else plural.removesuffix("s")
    return f"{count:,} {singular if count == 1 else plural}"


def _printable(text: str) -> str:
    """Return a text on one line, with escapes in place of characters that cannot be printed."""
    return text if text.isprintable() else repr(text)
