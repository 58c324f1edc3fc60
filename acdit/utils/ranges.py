"""Ranges of numbers in dataclasses, declared with their types and checked when an instance is created."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar, get_args, get_type_hints

from .errors import UserError
from .settings import label_of

MANY = 10**9
LARGE = 1e9
MOST_STEPS = 10**6  # of a schedule of noise, and of sampling


@dataclass(frozen=True)
class Range:
    """Range of numbers from `low` to `high`; NaN and infinity are in no range.

    Attributes:
        low: Lower bound.
        high: Upper bound.
        above: Whether `low` itself is excluded.
        below: Whether `high` itself is excluded.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False

    def check(self, name: str, value: float) -> None:
        """Raise UserError if `value` is outside the range; the message calls it `name`."""
        if not math.isfinite(value):
            raise UserError(f"{name} must be a finite number, not {value}")
        if value < self.low or (self.above and value == self.low):
            relation = "be above" if self.above else "be at least"
            raise UserError(f"{name} must {relation} {_format_bound(self.low)}, not {value}")
        if value > self.high or (self.below and value == self.high):
            relation = "be below" if self.below else "be at most"
            raise UserError(f"{name} must {relation} {_format_bound(self.high)}, not {value}")


def _format_bound(bound: float) -> str:
    """Return a bound as users write numbers: whole numbers with separators, others in the shortest form."""
    return f"{int(bound):,}" if float(bound).is_integer() else f"{bound:g}"


Count = Annotated[int, Range(1, MANY)]
CountFromZero = Annotated[int, Range(0, MANY)]
AtLeastTwo = Annotated[int, Range(2, MANY)]
SamplingSteps = Annotated[int, Range(1, MOST_STEPS)]
Seed = Annotated[int, Range(-(2**62), 2**62)]
Number = Annotated[float, Range(-LARGE, LARGE)]
NonNegative = Annotated[float, Range(0, LARGE)]
Positive = Annotated[float, Range(0, LARGE, above=True)]
Fraction = Annotated[float, Range(0, 1)]
FractionBelowOne = Annotated[float, Range(0, 1, below=True)]
FractionAboveZero = Annotated[float, Range(0, 1, above=True)]
Timestep = Annotated[float, Range(0, 1000, below=True)]
Magnitude = Annotated[float, Range(0, 10)]


class Ranged:
    """Base class of dataclasses whose numbers are checked against their ranges."""

    section: ClassVar[str] = ""
    """Prefix of the names of fields in messages, such as "training."; "--" for options."""

    def __post_init__(self) -> None:
        for name, bounds in ranges_of(type(self)).items():
            for value in _numbers(getattr(self, name)):
                bounds.check(label_of(type(self), name), value)


@cache
def ranges_of(cls: type) -> dict[str, Range]:
    """Return the range of every dataclass field that declares one, by the name of the field."""
    hints = get_type_hints(cls, include_extras=True)
    return {name: bounds for name, hint in hints.items() if (bounds := _range(hint)) is not None}


def _range(hint: object) -> Range | None:
    """Return the range in a type, at any depth, or None."""
    if isinstance(hint, Range):
        return hint
    inner = (*get_args(hint), *getattr(hint, "__metadata__", ()))
    return next((bounds for part in inner if (bounds := _range(part)) is not None), None)


def _numbers(value: object) -> Iterator[float]:
    """Yield the numbers in a value: the value itself, or those in a list."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value
