"""Class labels of a call: names or ids of classes, or None for no class."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..utils.errors import UserError
from ..utils.names import class_id
from ..utils.settings import nearest

ClassLabels = int | str | None | Sequence[int | str | None]


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
    names = {index: name for index, name in label_names.items() if name}
    given: Any = class_labels.tolist() if isinstance(class_labels, Tensor | np.ndarray) else class_labels
    listed = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not listed:
        raise UserError(
            "class_labels is empty: pass at least one class, or class_labels=None to generate without classes"
        )
    ids: list[int | None] = []
    for label in listed:
        if label is None:
            ids.append(None)
            continue
        index = class_id(label, names, count)
        if index is None:
            known = f"0..{count - 1}" if count else "none: the model is unconditional"
            similar = ", ".join(nearest(str(label), names.values())[:3])
            some = f", or names such as {similar}" if names else ""
            raise UserError(f"class_labels must be classes of the model, {known}{some}, not {label!r}")
        ids.append(index)
    return ids
