"""Rules that say whether a reference run has learned enough for verdicts. Does not import torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from .verdicts import NOT_LEARNED, NOT_MEASURED, UNDECIDED, Comparison, Direction, Scores


@dataclass(frozen=True)
class Learned:
    """Rule that says whether a reference run has learned enough for verdicts.

    Attributes:
        score: name of the score.
        direction: direction of better scores.
        limit: the mean of the score over the seeds must be better than this.
    """

    score: str
    direction: Direction
    limit: float

    def __str__(self) -> str:
        """Return the rule in words."""
        return f"{self.score} {'above' if self.direction == 'higher' else 'below'} {self.limit:g}"

    def has_learned(self, reference: Scores) -> bool:
        """Return whether scores of the reference run, by seed, show that it has learned."""
        if not reference:
            return False
        mean = fmean(reference.values())
        return mean > self.limit if self.direction == "higher" else mean < self.limit


LABEL_ACCURACY = Learned("label accuracy", "higher", 0.9)
VIDEO_ERROR = Learned("video error over that of the best trivial guess", "lower", 0.7)


def if_learned(comparisons: Sequence[Comparison], rule: Learned, reference: Scores) -> list[Comparison]:
    """Return comparisons with the verdict `not learned at this budget` unless the reference run has learned.

    Comparisons that are not measured stay so; so do all if the reference run is not measured. If a score of
    it is not finite, they are undecided.

    Args:
        comparisons: comparisons of a study.
        rule: when the reference run has learned.
        reference: scores of the reference run that the rule speaks of, by seed.
    """
    if rule.has_learned(reference):
        return list(comparisons)
    if not all(map(math.isfinite, reference.values())):
        verdict, words = UNDECIDED, f"{rule.score} of the reference run is not finite"
    elif reference:
        verdict, words = NOT_LEARNED, f"{rule.score} of the reference run is {fmean(reference.values()):.3g}"
    else:
        verdict, words = NOT_MEASURED, f"{rule.score} of the reference run is missing"
    return [
        each if each.verdict == NOT_MEASURED else replace(each, verdict=verdict, reason=words)
        for each in comparisons
    ]
