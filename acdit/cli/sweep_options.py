"""Parse the option --sweep, such as `--sweep guidance=1,1.5,2 steps=10,25`. Does not import torch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..model.layout import dims, parse_dims
from ..utils.errors import UserError
from ..utils.ranges import LARGE, MANY, Range
from ..utils.settings import nearest, split_values

ALL = "all"  # value of `checkpoint` that stands for every checkpoint
NONE = "none"  # value of `ema` that stands for the raw weights
FRACTION = Range(0, 1)


def _number(text: str) -> float:
    value = float(text)
    Range(-LARGE, LARGE).check("it", value)
    return value


def _whole(text: str) -> int:
    value = int(text)
    Range(1, MANY).check("it", value)
    return value


def _checkpoint(text: str) -> int | str:
    return ALL if text == ALL else _whole(text)


def _average(text: str) -> float | None:
    if text == NONE:
        return None
    value = float(text)
    FRACTION.check("it", value)
    return value


# Settings that can be swept, with the function that parses a value and the values in words.
SWEPT: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "guidance": (_number, "numbers, such as 1,1.5,2"),
    "steps": (_whole, "whole numbers above 0, such as 10,25"),
    "block": (lambda text: dims(parse_dims(text)), "block sizes, such as 8x8,4x4"),
    "checkpoint": (_checkpoint, "steps of checkpoints of the run, or all"),
    "ema": (_average, "decays of the averages of the weights, such as 0.999, or none"),
}


def parse_sweep(words: Sequence[str], keys: Sequence[str] = tuple(SWEPT)) -> dict[str, list[Any]]:
    """Return the values of every setting that --sweep names.

    Args:
        words: words KEY=VALUE,VALUE.
        keys: settings that can be swept.

    Raises:
        UserError: if a word has another form, or a setting is unknown, named twice, or has no such value.
    """
    values: dict[str, list[Any]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"--sweep must be KEY=VALUE,VALUE, such as guidance=1,1.5,2, not {word!r}")
        if key not in keys:
            raise UserError(
                f"--sweep cannot vary {key!r}; did you mean {nearest(key, keys)[0]}? It can vary "
                f"{', '.join(keys)}"
            )
        if key in values:
            raise UserError(f"--sweep names {key} twice: write its values in one list, {key}=VALUE,VALUE")
        parse, described = SWEPT[key]
        try:
            parsed = [parse(value) for value in split_values(text)]
        except ValueError as fault:
            raise UserError(f"--sweep {key} must be {described}, not {text!r}") from fault
        if not parsed:
            raise UserError(f"--sweep {key} must be {described}, not empty")
        values[key] = list(dict.fromkeys(parsed))
        if ALL in values[key] and len(values[key]) > 1:
            raise UserError(f"--sweep {key}={ALL} stands for every checkpoint: leave out the others")
    return values
