"""Reports of several settings of a model: as a table with the best setting marked, and as a plot."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ..utils.errors import require
from ..utils.files import whole
from .report import Report, Score, format_table

MOST_COLUMNS = 5  # scores that the table shows
MAIN = ("frechet_distance", "precision", "recall", "coverage", "label_accuracy")  # shown if there are more
COSTS = ("evaluations", "seconds")  # settings that the table shows
BEST = "*"
# Best values of scores that should be near that of real data, where that is not known; of others 1.
IDEAL = {"copied_fraction": 0.0, "inception_score_deviation": 0.0}


@dataclass(frozen=True)
class SweepRow:
    """Report of one setting.

    Attributes:
        swept: values of the settings that differ between the rows, by name.
        report: the report.
    """

    swept: Mapping[str, Any]
    report: Report


def combinations(values: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the values of several settings; the last setting changes fastest."""
    for chosen in product(*values.values()):
        yield dict(zip(values, chosen, strict=True))


def best_row(rows: Sequence[SweepRow]) -> int:
    """Return the index of the row with the best value of the first score; the first in a tie."""
    scores = [row.report.scores[0] for row in rows]
    return min(range(len(rows)), key=lambda index: _rank(scores[index]))


def sweep_table(rows: Sequence[SweepRow]) -> str:
    """Format the settings and the main scores as a table; a star marks the best value of the first score."""
    best, shown = best_row(rows), _main_scores(rows[0].report)
    several = len({score.features for score in shown}) > 1
    lines: list[dict[str, object]] = []
    for index, row in enumerate(rows):
        line: dict[str, object] = {"": BEST if index == best else ""}
        line |= {name: "none" if value is None else value for name, value in row.swept.items()}
        line |= {name: row.report.settings[name] for name in COSTS if name in row.report.settings}
        for score in shown:
            name = f"{score.metric} ({score.features})" if several and score.features else score.metric
            line[name] = row.report.score(score.metric, score.features).value
        lines.append(line)
    first = rows[0].report.scores[0]
    yardstick = "" if first.real is None else f"; real data: {first.real:.4g}"
    on = "" if first.features is None else f" on {first.features}"
    return f"{format_table(lines)}\nmarked {BEST}: the best {first.metric}{on}{yardstick}"


def plot_sweep(rows: Sequence[SweepRow], path: Path) -> None:
    """Plot the first score of every row over the setting with the most values; the others make the lines."""
    figures: Any = require("matplotlib.figure", "examples")
    axis = _axis_of(rows)
    lines: dict[tuple[tuple[str, Any], ...], list[tuple[Any, Score]]] = {}
    for row in rows:
        others = tuple((name, value) for name, value in row.swept.items() if name != axis)
        lines.setdefault(others, []).append((row.swept[axis], row.report.scores[0]))
    positions = [value for value, _ in next(iter(lines.values()))]
    numeric = all(isinstance(value, int | float) for value in positions)
    ticks = positions if numeric else list(range(len(positions)))
    figure = figures.Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    for others, points in lines.items():
        label = ", ".join(f"{name} {'none' if value is None else value}" for name, value in others)
        axes.plot(ticks, [score.value for _, score in points], "o-", label=label or None)
    first = rows[0].report.scores[0]
    best = rows[best_row(rows)]
    place = ticks[positions.index(best.swept[axis])]
    axes.plot([place], [best.report.scores[0].value], "*", color="black", markersize=14, label="best")
    if first.real is not None:
        axes.axhline(first.real, color="grey", linestyle=":", label="real data")
    if not numeric:
        axes.set_xticks(ticks, [str("none" if value is None else value) for value in positions])
    features = "" if first.features is None else f" of {first.features} features"
    axes.set(xlabel=axis, ylabel=f"{first.metric.replace('_', ' ')}{features}")
    axes.grid(alpha=0.3)
    axes.legend()
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=110)


def _main_scores(report: Report) -> Sequence[Score]:
    """Return the scores that the table shows, with the first one, by which settings are ranked."""
    first, *others = report.scores
    if len(report.scores) > MOST_COLUMNS:
        others = [score for score in others if score.metric in MAIN and score.features == first.features]
    return [first, *others[: MOST_COLUMNS - 1]]


def _axis_of(rows: Sequence[SweepRow]) -> str:
    """Return the name of the setting with the most values; the first in a tie."""
    return max(rows[0].swept, key=lambda name: len({str(row.swept[name]) for row in rows}))


def _rank(score: Score) -> float:
    """Return a number that is smaller for better values."""
    if score.better == "near real":
        return abs(score.value - (IDEAL.get(score.metric, 1.0) if score.real is None else score.real))
    return score.value if score.better == "lower" else -score.value
