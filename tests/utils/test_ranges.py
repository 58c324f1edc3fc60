"""Ranges of numbers: every one of every recipe and option has two ends, and they are checked by name."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, ClassVar, get_args, get_type_hints

import pytest

from acdit.cli.main import COMMANDS, load_command
from acdit.training.config import Recipe, TrainingConfig
from acdit.utils.errors import UserError
from acdit.utils.ranges import Count, Fraction, FractionAboveZero, FractionBelowOne, Range, Ranged, ranges_of

CLASSES = {cls for name in COMMANDS for cls in load_command(name).option_classes()}


def with_sections(cls: type) -> Iterator[type]:
    """A dataclass, and those of its sections."""
    yield cls
    for hint in get_type_hints(cls).values():
        if is_dataclass(hint):
            yield from with_sections(hint)  # pyright: ignore[reportArgumentType]


EVERY = sorted({cls for each in CLASSES for cls in with_sections(each)}, key=lambda cls: cls.__name__)


def numeric(hint: object) -> bool:
    return hint in (int, float) or any(numeric(each) for each in get_args(hint))


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_every_number_has_a_range(cls):
    assert len(EVERY) > 20
    hints = get_type_hints(cls)
    numbers = {field.name for field in fields(cls) if numeric(hints[field.name])} - {"labels"}
    assert numbers <= set(ranges_of(cls))
    assert all(bounds.low < bounds.high < float("inf") for bounds in ranges_of(cls).values())
    assert not numbers or issubclass(cls, Ranged)


@dataclass
class Example(Ranged):
    section: ClassVar[str] = "--"

    top_p: FractionAboveZero | None = None
    smooth: FractionBelowOne = 0.5
    steps: Count | list[Count] = 1
    pair: tuple[Fraction, Fraction] = (0.0, 1.0)
    flag: bool = True
    size: Annotated[int, Range(2, 4)] = 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"top_p": 0.0}, "--top-p must be above 0, not 0.0"),
        ({"top_p": 1.5}, "--top-p must be at most 1, not 1.5"),
        ({"top_p": float("nan")}, "--top-p must be a finite number, not nan"),
        ({"top_p": float("-inf")}, "--top-p must be a finite number, not -inf"),
        ({"smooth": 1.0}, "--smooth must be below 1, not 1.0"),
        ({"smooth": -0.1}, "--smooth must be at least 0, not -0.1"),
        ({"steps": [3, 0]}, "--steps must be at least 1, not 0"),
        ({"steps": 10**9 + 1}, "--steps must be at most 1,000,000,000"),
        ({"pair": (0.0, 2.0)}, "--pair must be at most 1, not 2.0"),
        ({"size": 5}, "--size must be at most 4, not 5"),
    ],
    ids=str,
)
def test_numbers_outside_are_refused(values, said):
    with pytest.raises(UserError) as refused:
        Example(**values)
    assert said in str(refused.value)


def test_ends_lie_inside():
    Example(top_p=1.0, smooth=0.0, steps=[1, 10**9], pair=(0.0, 1.0), size=4, flag=False)
    Example(top_p=None)


def test_sections_of_a_recipe_name_their_keys():
    with pytest.raises(UserError, match=r"^training\.keep_every must be at least 0, not -1$"):
        TrainingConfig(keep_every=-1)
    assert Recipe().training.steps == 1000
