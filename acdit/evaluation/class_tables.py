"""Tables and scores of a classification: accuracy with intervals, and the confused classes."""

from collections import Counter
from collections.abc import Sequence
from math import isnan

from torch import Tensor

from ..metrics.classification import class_table, wilson_interval
from .report import MOST_ROWS, Interval, Score, Table

LEVEL = 0.95
TOP = 5
PROBABILITY = "probability that a further item of the same data is recognised"


def accuracy_scores(ranks: Tensor, classes: int, name: str = "accuracy") -> tuple[Score, ...]:
    """Return the accuracy, and the top-5 accuracy where there are more classes, with Wilson intervals.

    Args:
        ranks: rank of the class of each item, see `class_ranks`, (N,).
        classes: number of classes.
        name: name of the score.
    """
    scores = []
    for k in (1, TOP) if classes > TOP else (1,):
        value = float((ranks < k).double().mean())
        interval = Interval(*wilson_interval(value, len(ranks), LEVEL), LEVEL, PROBABILITY)
        label = name if k == 1 else f"top_{k}_{name}"
        scores.append(Score(label, value, better="higher", samples=len(ranks), interval=interval))
    return tuple(scores)


def class_tables(confusion: Tensor, names: Sequence[str | None]) -> tuple[Table, Table]:
    """Return the scores of each class, and the numbers of confused items, as tables.

    More classes than are printed are sorted by accuracy, the lowest first.

    Args:
        confusion: number of items by class and assigned class, (K, K).
        names: names of the classes; None for a class without a name.
    """
    labels = shown_names(names)
    table = class_table(confusion)
    rows = [
        (label, int(counts), *(None if isnan(value) else value for value in values))
        for label, counts, *values in zip(
            labels, table.counts.tolist(), table.recall.tolist(), table.precision.tolist(), strict=True
        )
    ]
    if len(rows) > MOST_ROWS:
        rows.sort(key=lambda row: (row[2] is None, row[2]))
    entries = [
        (labels[row], labels[column], int(confusion[row, column]))
        for row, column in confusion.nonzero().tolist()
    ]
    return (
        Table("classes", ("class", "count", "accuracy", "precision"), tuple(rows)),
        Table("confusion", ("class", "assigned", "count"), tuple(entries), printed=False),
    )


def shown_names(names: Sequence[str | None]) -> list[str]:
    """Return the names of classes, each different from the others.

    A class without a name is shown by its number, and classes of equal names by name and number.
    """
    plain = [str(row) if name is None else name for row, name in enumerate(names)]
    repeated = {name for name, count in Counter(plain).items() if count > 1}
    return [f"{name} ({row})" if name in repeated else name for row, name in enumerate(plain)]
