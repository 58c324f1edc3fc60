"""Kinds of values in files of JSON, and the check that a file holds such values. Does not import torch."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .untrusted import damage, shown

LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Kind:
    """Kind of a value in a file.

    Attributes:
        described: description of the valid values.
        accepts: function that returns whether a value is valid.
        optional: whether the key may be missing.
    """

    described: str
    accepts: Callable[[Any], bool]
    optional: bool = False

    def or_none(self) -> "Kind":
        """Return the kind that also accepts null."""
        accepts = self.accepts
        return Kind(f"{self.described} or null", lambda value: value is None or accepts(value), self.optional)

    def if_given(self) -> "Kind":
        """Return the kind of a key that may be missing."""
        return Kind(self.described, self.accepts, optional=True)


def whole_number(minimum: int = 1, maximum: int = LARGEST) -> Kind:
    """Return the kind of whole numbers in a range."""
    return Kind(
        f"a whole number from {minimum} to {maximum}",
        lambda value: type(value) is int and minimum <= value <= maximum,
    )


def at_least(minimum: int) -> Kind:
    """Return the kind of whole numbers from a minimum, of which the caller checks how large they are."""
    return Kind(
        f"a whole number of at least {minimum}", lambda value: type(value) is int and minimum <= value
    )


def number(minimum: float = -math.inf) -> Kind:
    """Return the kind of finite numbers of at least `minimum`."""
    bound = "" if minimum == -math.inf else f" of at least {minimum:g}"
    return Kind(
        f"a finite number{bound}",
        lambda value: type(value) in (int, float) and minimum <= value < LARGEST and value > -LARGEST,
    )


def list_of(kind: Kind, lengths: range = range(1, 10**6)) -> Kind:
    """Return the kind of lists of a kind, with a length in a range."""
    lengths_text = f"{lengths.start} to {lengths.stop - 1}" if len(lengths) > 1 else f"{lengths.start}"
    return Kind(
        f"a list of {lengths_text} values, each {kind.described}",
        lambda value: isinstance(value, list) and len(value) in lengths and all(map(kind.accepts, value)),
    )


def one_of(*choices: str) -> Kind:
    """Return the kind of some words."""
    return Kind(f"one of {', '.join(choices)}", lambda value: isinstance(value, str) and value in choices)


TEXT = Kind("text", lambda value: isinstance(value, str))
BOOL = Kind("true or false", lambda value: isinstance(value, bool))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))


def check_values(values: object, kinds: Mapping[str, Kind], path: Path, remedy: str = "") -> dict[str, Any]:
    """Return an object of a file, after checking its values; keys without a kind are not checked.

    Raises:
        UserError: if it is not an object, a key is missing, or a value is of another kind.
    """
    if not isinstance(values, dict):
        raise damage(path, f"it must hold a JSON object, not {shown(values)}", remedy)
    for key, kind in kinds.items():
        if key not in values:
            if kind.optional:
                continue
            raise damage(path, f"it lacks {key!r}", remedy)
        if not kind.accepts(values[key]):
            raise damage(path, f"{key} must be {kind.described}, not {shown(values[key])}", remedy)
    return values
