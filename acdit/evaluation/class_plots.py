"""Plots of reports of classes: confused classes, reliability, and accuracy over layers and timesteps."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..utils.errors import UserError, require
from ..utils.files import check_writable, whole
from .report import Report, Table

NAMED = 40  # classes up to which the axes name them
COUNTED = 20  # classes up to which the cells show numbers
RESOLUTION = 120  # dots per inch


def check_class_plots(path: str | None) -> None:
    """Raise UserError if plots cannot be drawn or written; call it before the work that would be lost.

    Args:
        path: PNG file, or a folder; None = no plots.
    """
    if path is None:
        return
    require("matplotlib", "examples")
    if Path(path).suffix.lower() == ".png":
        check_writable(Path(path))
    elif Path(path).suffix:
        raise UserError(f"--plot must be a .png file or a folder, not {path!r}")
    else:
        check_writable(Path(path) / "confusion.png")


def plot_classes(report: Report, path: Path) -> list[Path]:
    """Plot everything of a report: into one PNG file side by side, or into a folder, one file each.

    Args:
        report: report of a classifier, or of a generator as a classifier.
        path: PNG file, or a folder.

    Returns:
        The files.
    """
    panels = _panels(report)
    if path.suffix.lower() == ".png":
        _save(report, panels, path)
        return [path]
    path.mkdir(parents=True, exist_ok=True)
    files = []
    for name, panel in panels.items():
        files.append(path / f"{name}.png")
        _save(report, {name: panel}, files[-1])
    return files


Panel = Callable[[Any, Report], None]
"""Function that draws a part of a report on the axes of matplotlib."""


def _panels(report: Report) -> Mapping[str, Panel]:
    """Return the panels for which a report has values, by name."""
    tables = {table.name for table in report.tables}
    panels: dict[str, Panel] = {}
    if "confusion" in tables:
        panels["confusion"] = _draw_confusion
    if "reliability" in tables:
        panels["reliability"] = _draw_reliability
    for axis in dict.fromkeys(series.axis for series in report.series):
        panels[f"{axis}s"] = _line_panel(axis)
    return panels


def _save(report: Report, panels: Mapping[str, Panel], path: Path) -> None:
    figures: Any = require("matplotlib.figure", "examples")
    figure = figures.Figure(figsize=(6.2 * len(panels), 5.4), layout="constrained")
    for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.values(), strict=True):
        draw(axes, report)
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=RESOLUTION)


def _draw_confusion(axes: Any, report: Report) -> None:
    """Draw the fraction of the items of each class that are assigned to each class, with their numbers."""
    names = sorted_names(report)
    index = {name: row for row, name in enumerate(names)}
    counts = [[0] * len(names) for _ in names]
    for label, assigned, count in table_of(report, "confusion").rows:
        counts[index[str(label)]][index[str(assigned)]] += int(count or 0)
    fractions = [[count / max(1, sum(row)) for count in row] for row in counts]
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    axes.figure.colorbar(image, ax=axes, label="fraction of the items of the class", shrink=0.85)
    if len(names) <= NAMED:
        size = 9 if len(names) <= COUNTED else 6
        slant = 90 if max(map(len, names)) > 2 else 0
        axes.set_xticks(range(len(names)), [_short(name) for name in names], rotation=slant, fontsize=size)
        axes.set_yticks(range(len(names)), [_short(name) for name in names], fontsize=size)
    if len(names) <= COUNTED:
        for row, values in enumerate(counts):
            for column, count in enumerate(values):
                if count:
                    colour = "white" if fractions[row][column] > 0.5 else "black"
                    axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=8)
    axes.set(xlabel="assigned class", ylabel="class", title="Confused classes")


def _draw_reliability(axes: Any, report: Report) -> None:
    """Draw accuracy over confidence in bins, with the fraction of the items in each bin."""
    rows = [
        (float(low or 0), float(high or 0), int(count or 0), confidence, accuracy)
        for low, high, count, confidence, accuracy in table_of(report, "reliability").rows
    ]
    total = sum(row[2] for row in rows)
    width = rows[0][1] - rows[0][0]
    axes.bar(
        [(low + high) / 2 for low, high, *_ in rows],
        [row[2] / total for row in rows],
        width=0.9 * width,
        color="lightgrey",
        label="fraction of the items",
    )
    axes.plot([0, 1], [0, 1], ":", color="black", label="calibrated")
    filled = [row for row in rows if row[2]]
    axes.plot(
        [row[3] for row in filled], [row[4] for row in filled], "o-", color="tab:blue", label="accuracy"
    )
    error = next((each.value for each in report.scores if each.metric == "calibration_error"), None)
    title = "Reliability" if error is None else f"Reliability, calibration error {error:.3f}"
    axes.set(xlabel="mean confidence of the bin", ylabel="accuracy", title=title, xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize=8)


def _line_panel(axis: str) -> Panel:
    def draw(axes: Any, report: Report) -> None:
        for series in report.series:
            if series.axis == axis:
                label = series.metric.replace("_", " ")
                axes.plot(series.positions, series.values, "o-", label=label)
        axes.set(xlabel=axis, ylabel="accuracy", title=f"Accuracy by {axis}")
        if axis == "layer":
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)

    return draw


def table_of(report: Report, name: str) -> Table:
    """Return the table of a report that has this name."""
    return next(table for table in report.tables if table.name == name)


def sorted_names(report: Report) -> list[str]:
    """Return the names of the classes of a report, in the order of their ids."""
    return [str(name) for name in report.settings["classes"]]


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"
