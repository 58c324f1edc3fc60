"""Comparisons of the claims about the cost of sampling, of rows of the study `time`. Does not import torch.

Rounds take the place of seeds: in each, every number of blocks is timed once, so that slowdowns of the
machine affect all alike.
"""

import math
from collections.abc import Sequence

from ..model.sizes import Size
from .claim import Compare, Evidence, Row, by_level
from .verdicts import Comparison, Expectation, Scores, compare, trend

LAPTOP = Size(2, 128, 2)
LONGEST = 16384  # tokens
COUNTS = (1, 4, 16, 64)  # numbers of blocks
ROUND = "round"  # in place of a seed
FASTER = Expectation("lower", relative=True)
# As a fraction of the time of one block: a fifth of the limit of the formula, one half.
WITHIN = Expectation("equal", 0.1, "lower")


def faster_with_blocks(
    rows: Sequence[Row], tokens: int = LONGEST, counts: Sequence[int] = COUNTS
) -> list[Comparison]:
    """Return the trend of the seconds of a sample over the number of blocks, at one length."""
    name = f"seconds with more blocks, {tokens:,} tokens"
    return [trend(name, _seconds(rows, tokens, counts), FASTER, pairs=ROUND)]


def saving_of_formula(
    rows: Sequence[Row], tokens: int = LONGEST, counts: Sequence[int] = COUNTS
) -> list[Comparison]:
    """Compare the fraction of the time of one block that is saved with that of the formula, at one length."""
    seconds = _seconds(rows, tokens, counts)
    formula = by_level(rows, "blocks", counts, "formula_saving", pairs=ROUND, tokens=tokens)
    one = seconds[1]
    return [
        compare(
            f"fraction saved by {count:g} blocks against the formula, {tokens:,} tokens",
            {number: _saved(own[number], one[number]) for number in own.keys() & one.keys()},
            formula[count],
            WITHIN,
            pairs=ROUND,
        )
        for count, own in seconds.items()
        if count != 1
    ]


def _saved(own: float, one: float) -> float:
    """Return the fraction of the seconds of one block that is saved; NaN if these are none."""
    return 1 - own / one if one > 0 else math.nan


def _seconds(rows: Sequence[Row], tokens: int, counts: Sequence[int]) -> dict[float, Scores]:
    """Return seconds of a sample by number of blocks and round."""
    return by_level(rows, "blocks", counts, "seconds", pairs=ROUND, tokens=tokens)


def sampling_time(compare_rows: Compare) -> Evidence:
    """Return evidence of the study of the time of sampling."""
    setting = {"steps": 10, "dtype": "float32", "network": LAPTOP._asdict()}
    return Evidence(
        "time", "acdit study time", compare_rows, "time.png", "a CPU", setting=setting, pairs=ROUND
    )
