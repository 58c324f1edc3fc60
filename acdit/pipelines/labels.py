"""Class labels of a call: names or ids of classes, or None for no class, for all blocks or block by block."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..utils.errors import UserError
from ..utils.names import class_ids

ClassLabels = int | str | None | Sequence[int | str | None]
LabelsByBlock = Iterator[ClassLabels]


def ids_of_labels(class_labels: ClassLabels, label_names: Mapping[int, str], count: int) -> list[int | None]:
    """Return the class ids of labels; None stays None.

    Args:
        class_labels: label or labels. A text is the name of a class, or its id if no class has that name; an
            int is an id.
        label_names: class names by class id; empty names do not count.
        count: number of classes.

    Raises:
        UserError: if there is no label, or no such class.
    """
    given: Any = class_labels.tolist() if isinstance(class_labels, Tensor | np.ndarray) else class_labels
    listed = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not listed:
        raise UserError(
            "class_labels is empty: pass at least one class, or class_labels=None to generate without classes"
        )
    return class_ids(listed, label_names, count)


def label_tensor(ids: Sequence[int | None], null: int | None, device: torch.device) -> Tensor | None:
    """Return class ids as a tensor (N,), the null label in place of None; None if no sample has a class."""
    if all(label is None for label in ids):
        return None
    return torch.tensor([null if label is None else label for label in ids], device=device)


class BlockLabels:
    """Classes of one block after another, which are read from an iterator just before a block begins.

    Args:
        labels: labels of each block: one for all samples, or a list of one for each sample.
        samples: number of samples, N.
        ids_of: function that returns the class ids of labels, see `ids_of_labels`.
        null: id of the null label; None for a model without classes.
        device: device of the returned tensors.

    Attributes:
        current: classes (N,) of the current block; None before the first one, and if no sample has a class.
    """

    def __init__(
        self,
        labels: LabelsByBlock,
        samples: int,
        ids_of: Callable[[ClassLabels], list[int | None]],
        null: int | None,
        device: torch.device,
    ):
        self.current: Tensor | None = None
        self._labels, self._samples, self._ids_of = labels, samples, ids_of
        self._null, self._device = null, device

    def __call__(self, index: int) -> Tensor | None:
        """Read the labels of the next block, and return its classes (N,); None if no sample has one.

        Raises:
            UserError: if there are no more labels, no such class, or not one label or one for each sample.
        """
        missing = object()
        given: Any = next(self._labels, missing)
        if given is missing:
            raise UserError(
                f"class_labels ended before block {index}: an iterator must yield the labels of every block"
            )
        try:
            ids = self._ids_of(given)
        except UserError as fault:
            raise UserError(f"block {index}: {fault}") from fault
        if len(ids) not in (1, self._samples):
            raise UserError(
                f"block {index}: class_labels must be one label or {self._samples} (one per sample), "
                f"not {len(ids)}"
            )
        ids = ids if len(ids) == self._samples else ids * self._samples
        self.current = label_tensor(ids, self._null, self._device)
        return self.current
