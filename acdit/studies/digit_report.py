"""Pages of the studies on digits: a table of quality and cost, comparisons with verdicts, and plots."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from ..evaluation.report import format_table
from ..metrics.paired import mean_interval
from ..utils.errors import require
from ..utils.files import whole
from .claims import CLAIMS
from .design import Row, Rows
from .digit_quality import ACCURACY, COVERAGE, DISTANCE, REAL, Arm
from .digit_runs import DigitBudget
from .finite_scores import finite, with_interval
from .measurements import markdown_table
from .verdicts import Comparison, Scores, count_words, scores_of

MARKERS = "os^Dvp*X"


def arm_scores(rows: Rows, column: str = DISTANCE, **where: object) -> Scores:
    """Return the scores of an arm by seed."""
    return scores_of(rows.values(), column, pairs="seed", **where)


@dataclass(frozen=True)
class Line:
    """Line of a plot.

    Attributes:
        label: text of the legend.
        points: scores of the seeds, by position on the x axis.
        style: style of the line, as in matplotlib.
    """

    label: str
    points: Mapping[float, Scores] | Mapping[int, Scores]
    style: str = "-"


@dataclass(frozen=True)
class Panel:
    """Panel of a plot, with the means of its lines and their 95% intervals over the seeds.

    Attributes:
        title: title of the panel.
        x: label of the x axis.
        lines: lines of the panel.
        ticks: names of positions on the x axis, if these are not numbers or should all be shown.
        log: whether the x axis is logarithmic.
    """

    title: str
    x: str
    lines: Sequence[Line]
    ticks: Mapping[float, str] | Mapping[int, str] | None = None
    log: bool = False


def digit_page(
    budget: DigitBudget,
    name: str,
    title: str,
    lead: str,
    arms: Sequence[Arm],
    panels: Sequence[Panel],
    rows: Rows,
    folder: Path,
) -> tuple[str, list[Path]]:
    """Write the page and the plot of a study, and return its tables.

    The comparisons are those of the claims that the study tests.

    Args:
        budget: data and sizes of the study.
        name: name of the study.
        title: title of the page.
        lead: what the study compares, in a few sentences.
        arms: arms of the table, in its order.
        panels: panels of the plot.
        rows: all rows.
        folder: output folder.
    """
    tested = claimed(name if budget.recipe == "digits" else f"{name}-{budget.recipe}", rows)
    quality, compared = quality_table(arms, rows), [comparison.row() for comparison in tested]
    real = fmean(finite(row[REAL] for row in rows.values()) or [math.nan])
    note = (
        f"{lead} Means over the seeds with 95% t intervals, on features of a classifier of digits; as many "
        f"real training digits have a Fréchet distance of {real:.3g} from the held-out ones. MFLOPs and "
        "milliseconds are those of drawing a digit, training TFLOPs those of the whole training. "
        "Milliseconds are wall time, the median over the seeds, of a machine that may have been busy with "
        "other work."
    )
    words = f"{count_words(tested)} They are of the Fréchet distance, where lower is better."
    page, plot = folder / f"{name}.md", folder / f"{name}.png"
    draw_panels(panels, real, plot)
    lines = [f"# {title}", "", note, "", *markdown_table(quality), "", words, ""]
    lines += [*markdown_table(compared), "", f"![{title}]({plot.name})", ""]
    with whole(page) as temporary_path:
        temporary_path.write_text("\n".join(lines))
    return "\n\n".join([format_table(quality), words, format_table(compared)]), [page, plot]


def claimed(folder: str, rows: Rows) -> list[Comparison]:
    """Return the comparisons of all claims that are tested by a folder of `docs/studies`."""
    return [
        comparison
        for claim in CLAIMS
        for evidence in claim.evidence
        if evidence.folder == folder
        for comparison in evidence.comparisons(list(rows.values()))
    ]


def quality_table(arms: Sequence[Arm], rows: Rows) -> list[dict[str, str]]:
    """Return a line for each arm: its scores with their intervals over the seeds, and its costs."""
    lines = []
    for arm in arms:
        own = rows_of(rows, arm)
        lines.append(
            {
                column: f"{value:g}" if isinstance(value, float) else str(value)
                for column, value in arm.key.items()
            }
            | {
                "Fréchet distance": with_interval([row[DISTANCE] for row in own]),
                "coverage": with_interval([row[COVERAGE] for row in own]),
                "label accuracy, %": with_interval([100 * row[ACCURACY] for row in own]),
                "network calls": mean_of(own, "network_calls", 1, "g"),
                "MFLOPs": mean_of(own, "sampling_flops", 1e6),
                "ms": _median(own, "sampling_seconds", 1e-3),
                "training TFLOPs": mean_of(own, "training_flops", 1e12),
            }
        )
    return lines


def rows_of(rows: Rows, arm: Arm) -> list[Row]:
    """Return the rows of an arm, one for each seed."""
    return [row for row in rows.values() if all(row[key] == value for key, value in arm.key.items())]


def mean_of(rows: Sequence[Row], column: str, unit: float, form: str = ".3g") -> str:
    """Return the mean of a column in a unit, as text; empty if it was not counted."""
    values = finite(row[column] for row in rows)
    return f"{fmean(values) / unit:{form}}" if values else ""


def _median(rows: Sequence[Row], column: str, unit: float) -> str:
    values = finite(row[column] for row in rows)
    return f"{median(values) / unit:.3g}" if values else ""


def draw_panels(panels: Sequence[Panel], real: float, path: Path) -> None:
    """Draw panels of Fréchet distances side by side, with means and 95% intervals over the seeds.

    Scores of runs that diverged are left out.

    Args:
        panels: the panels.
        real: distance of real digits, drawn as a horizontal line.
        path: path of the PNG.
    """
    figures: Any = require("matplotlib.figure", "examples")
    tickers: Any = require("matplotlib.ticker", "examples")
    figure = figures.Figure(figsize=(5.5 * len(panels), 4.5), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for marker, line in zip(MARKERS * len(panel.lines), panel.lines, strict=False):
            known = {
                position: mean_interval(scores)
                for position, each in line.points.items()
                if math.isfinite(position) and (scores := finite(each.values()))
            }
            if not known:
                continue
            positions, intervals = zip(*sorted(known.items(), key=lambda each: each[0]), strict=True)
            means = [interval.mean for interval in intervals]
            halves = [0.0 if each.low is None else each.mean - each.low for each in intervals]
            axes.errorbar(
                positions, means, yerr=halves, fmt=f"{marker}{line.style}", capsize=3, label=line.label
            )
        if math.isfinite(real):
            axes.axhline(real, color="grey", linestyle=":", label="real digits")
        axes.set_yscale("log")
        scaled = [axes.yaxis]
        if panel.log:
            axes.set_xscale("log")
            scaled.append(axes.xaxis)
        for axis in scaled:  # plain numbers in place of powers of ten
            axis.set_major_formatter(tickers.LogFormatter())
            axis.set_minor_formatter(tickers.LogFormatter(minor_thresholds=(2, 1)))
        if panel.ticks is not None:
            ticks = {place: name for place, name in panel.ticks.items() if math.isfinite(place)}
            axes.set_xticks(list(ticks), list(ticks.values()))
            axes.xaxis.set_minor_locator(tickers.NullLocator())
        axes.set(title=panel.title, xlabel=panel.x, ylabel="Fréchet distance (lower is better)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=110)
