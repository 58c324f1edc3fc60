"""Names of classes: their Unicode normal form, their order, and the class that a label requests."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from importlib.resources import files

from .checks import is_integer
from .errors import UserError
from .settings import nearest

NAMELESS = ("",)  # names of the classes of files without classes: one, so that labels exist, without a name
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
# Last words of the names of columns that hold classes in most data sets.
LABEL_WORDS = frozenset(("label", "labels", "class", "classes", "category", "target"))
INDEX = re.compile(r"0*[0-9]{1,18}")  # no model has more classes, and int() refuses thousands of digits


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's thousand classes, in the order of its labels."""
    return tuple(files("acdit").joinpath("labels", "imagenet.txt").read_text().splitlines())


def normal(name: str) -> str:
    """Return a name in the normal form NFC, in which names are compared; macOS stores file names in NFD."""
    return unicodedata.normalize("NFC", name)


def names_classes(column: str) -> bool:
    """Return whether the name of a column suggests that it holds classes."""
    return column.lower().rpartition("_")[2] in LABEL_WORDS


def class_order(names: Iterable[str]) -> list[str]:
    """Sort the names of classes: by number if all are numbers, such as 2 and 10, otherwise as text."""
    listed = list(names)
    if all(NUMBER.fullmatch(name) for name in listed):
        return sorted(listed, key=lambda name: (Decimal(name), name))
    return sorted(listed, key=lambda name: (normal(name), name))


def same_classes(names: Sequence[str], others: Sequence[str]) -> list[int] | None:
    """Return the index in `names` of each of `others`, or None if these are not the same names.

    A single class without a name equals any single class: earlier versions named it after a folder.
    """
    if len(names) == len(others) == 1 and "" in (*names, *others):
        return [0]
    indices = {normal(name): index for index, name in enumerate(names)}
    if len(names) != len(others) or len(indices) != len(names):
        return list(range(len(names))) if list(names) == list(others) else None
    listed = [indices.get(normal(name)) for name in others]
    complete = [index for index in listed if index is not None]
    return complete if len(set(complete)) == len(names) else None


def class_named(name: str, names: Mapping[int, str]) -> int | None:
    """Return the id of the class with a name, or None; the form of Unicode makes no difference.

    Raises:
        UserError: if several classes have this name.
    """
    matches = [index for index, other in names.items() if other == name]
    if not matches:
        matches = [index for index, other in names.items() if normal(other) == normal(name)]
    if len(matches) > 1:
        ids = ", ".join(map(str, matches))
        raise UserError(f"several classes are named {name!r}: pass one of their numbers as an int, {ids}")
    return matches[0] if matches else None


def class_id(label: object, names: Mapping[int, str], count: int) -> int | None:
    """Return the id of the class that a label requests; None if there is no such class.

    Args:
        label: name of a class; if no class has this name, the text of a class id; or an int, a class id.
        names: class names by class id.
        count: number of classes.
    """
    if isinstance(label, str):
        index = class_named(label, names)
        if index is None and INDEX.fullmatch(label):
            index = int(label)
    else:
        index = int(label) if is_integer(label) else None
    return index if index is not None and 0 <= index < count else None


def class_ids(
    labels: Iterable[object], names: Mapping[int, str], count: int, name: str = "class_labels"
) -> list[int | None]:
    """Return the class ids of labels; None stays None.

    Args:
        labels: labels; a text is the name of a class, or its id if no class has that name; an int is an id.
        names: class names by class id; empty names do not count.
        count: number of classes.
        name: name of the argument or the option that holds the labels.

    Raises:
        UserError: if there is no such class, or several classes have the same name.
    """
    named = {index: each for index, each in names.items() if each}
    ids: list[int | None] = []
    for label in labels:
        index = None if label is None else class_id(label, named, count)
        if index is None and label is not None:
            known = f"0..{count - 1}" if count else "none: the model is unconditional"
            spoken = [each for number, each in named.items() if each != str(number)]
            similar = ", ".join(nearest(str(label), spoken)[:3])
            some = f", or names such as {similar}" if spoken else ""
            raise UserError(f"{name} must be classes of the model, {known}{some}, not {label!r}")
        ids.append(index)
    return ids


def printable(text: str) -> str:
    """Return a text from outside in one line that a terminal can show, with escapes for other characters."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def shortened(text: str, longest: int) -> str:
    """Return a text, with an ellipsis in place of a part inside if it has more than `longest` characters."""
    end = longest // 4
    return text if len(text) <= longest else f"{text[: longest - 1 - end]}…{text[-end:]}"
