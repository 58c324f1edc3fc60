"""Form of a claim: what is said, the measurements that test it, and what laptop size cannot show.

Does not import torch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .learned import LABEL_ACCURACY, Learned, if_learned
from .verdicts import (
    HIGHER,
    LOWER,
    Comparison,
    Scores,
    compare,
    scores_of,
)

Row = Mapping[str, Any]
Compare = Callable[[Sequence[Row]], list[Comparison]]


@dataclass(frozen=True)
class Evidence:
    """Measurements that test a claim.

    Attributes:
        folder: name of the folder of the measurements in `docs/studies`.
        command: command that makes them.
        compare: function of the rows that returns the comparisons of the claim, or none without rows.
        plot: name of a plot in the folder.
        data: what is measured, in words, such as `8x8 digits`.
        reference: scores of the reference run, by seed, of the rows; None if there is nothing to learn.
        learned: when the reference run has learned.
        setting: settings that the measurements must have, such as the budget.
        pairs: what the scores are paired by.
    """

    folder: str
    command: str
    compare: Compare
    plot: str
    data: str
    reference: Callable[[Sequence[Row]], Scores] | None = None
    learned: Learned = LABEL_ACCURACY
    setting: Mapping[str, Any] = field(default_factory=dict)
    pairs: str = "seed"

    @property
    def study(self) -> str:
        """Return the name of the study."""
        return self.command.split()[2]

    def comparisons(self, rows: Sequence[Row]) -> list[Comparison]:
        """Return the comparisons of the claim, without verdicts if the reference run has not learned."""
        found = self.compare(rows) if rows else []
        return found if self.reference is None else if_learned(found, self.learned, self.reference(rows))


@dataclass(frozen=True)
class FullRun:
    """Training run at full size.

    Attributes:
        recipe: recipe of the package.
        overrides: values of the recipe by dotted key, as on the command line.
        planned: further values with which the costs are planned, such as those without a trained generator.
    """

    recipe: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    planned: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """Return the command of the run on one machine."""
        options = "".join(f" --{key} {value}" for key, value in self.overrides.items())
        return f"acdit train {self.recipe}{options}"


@dataclass(frozen=True)
class Claim:
    """Claim about the method.

    Attributes:
        name: short name, for links.
        title: the claim in a few words.
        source: figure, table or section of the paper; `ours` for claims of this package.
        said: what the paper says, with its figures.
        evidence: measurements that test the claim.
        tested: what is expected of the measurements, and the reason of each margin.
        beyond: what laptop size cannot show.
        full: training runs that would show it.
        full_command: command that would show it without training.
    """

    name: str
    title: str
    source: str
    said: str
    evidence: tuple[Evidence, ...]
    tested: str
    beyond: str
    full: tuple[FullRun, ...] = ()
    full_command: str = ""


def by_level(
    rows: Sequence[Row],
    level: str,
    values: Iterable[float],
    column: str,
    *,
    pairs: str = "seed",
    **where: object,
) -> dict[float, Scores]:
    """Return scores by the values of a column of levels, in rows with given values of other columns.

    A level that is not measured has no scores, so that a trend over it is not measured either.

    Args:
        rows: rows of measurements.
        level: column of the level.
        values: levels.
        column: column of the score.
        pairs: column of the seed, or of what else pairs the scores.
        where: values of other columns.
    """
    return {value: scores_of(rows, column, pairs=pairs, **{level: value}, **where) for value in values}


def between(name: str, middle: Scores, ends: Mapping[str, Scores]) -> list[Comparison]:
    """Compare scores with those of two ends, between which they are expected.

    The means of the ends, over the seeds that have all three scores, say which end is the higher one. So
    scores on a straight line between the ends are confirmed whatever its direction, and refuted are scores
    that lie beyond one of the ends with their whole interval.

    Args:
        name: what lies between, such as `4 blocks`.
        middle: its scores, by seed.
        ends: scores of both ends, by name.
    """
    (first, low), (last, high) = ends.items()
    seeds = middle.keys() & low.keys() & high.keys()
    expected = (HIGHER, LOWER)
    if sum(high[seed] - low[seed] for seed in seeds) < 0:
        expected = (LOWER, HIGHER)
    return [
        compare(f"{name} against {end}", middle, ends[end], each)
        for end, each in zip((first, last), expected, strict=True)
    ]
