"""Plots of reports of classes: confused classes, reliability, and accuracy over layers and timesteps."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..utils.errors import UserError, require
from ..utils.files import check_writable, whole
from ..utils.names import printable, shortened
from .report import Report, Table

NAMED = 40  # classes up to which the axes name them
COUNTED = 20  # classes up to which the cells show numbers
MOST_CELLS = 250  # cells along an axis; of more classes, neighbouring ones share a cell
DISTINCT = 10  # lines that have colours of their own; more are shaded
WIDEST = 16  # characters of a name on an axis
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
    figure = _figure(report, panels)
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=RESOLUTION)


def _figure(report: Report, panels: Mapping[str, Panel]) -> Any:
    """Return a figure of panels side by side."""
    figures: Any = require("matplotlib.figure", "examples")
    figure = figures.Figure(figsize=(6.2 * len(panels), 5.4), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    for axes, draw in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.values(), strict=True):
        draw(axes, report)
    return figure


def _draw_confusion(axes: Any, report: Report) -> None:
    """Draw the fraction of the items of each class that are assigned to each class, with their numbers.

    Of very many classes, each cell stands for a group of neighbouring ones.
    """
    names = sorted_names(report)
    group = -(-len(names) // MOST_CELLS)
    cells = -(-len(names) // group)
    index = {name: row // group for row, name in enumerate(names)}
    counts = [[0] * cells for _ in range(cells)]
    for label, assigned, count in table_of(report, "confusion").rows:
        counts[index[str(label)]][index[str(assigned)]] += int(count or 0)
    fractions = [[count / max(1, sum(row)) for count in row] for row in counts]
    edge = cells * group - 0.5
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1, extent=(-0.5, edge, edge, -0.5))
    axes.figure.colorbar(image, ax=axes, label="fraction of the items of the class", shrink=0.85)
    numbered = ""
    if len(names) <= NAMED:
        shown = tick_names(names)
        text = {"fontsize": 9 if len(names) <= COUNTED else 6, "parse_math": False}
        slant = 90 if max(map(len, shown)) > 2 else 0
        axes.set_xticks(range(len(names)), shown, rotation=slant, **text)
        axes.set_yticks(range(len(names)), shown, **text)
    else:
        numbered = ", by number"
    if len(names) <= COUNTED:
        for row, values in enumerate(counts):
            for column, count in enumerate(values):
                if count:
                    colour = _legible(image.to_rgba(fractions[row][column]))
                    axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=8)
    title = "Confused classes" if group == 1 else f"Confused classes, {group} to a cell"
    axes.set(xlabel=f"assigned class{numbered}", ylabel=f"class{numbered}", title=title)


def tick_names(names: Sequence[str]) -> list[str]:
    """Return names of classes as an axis shows them: in one line, short, and in letters that the font has.

    A name with other letters, or whose short form is that of another class, is replaced by the number.
    """
    fonts: Any = require("matplotlib.font_manager", "examples")
    letters = fonts.get_font(fonts.findfont(fonts.FontProperties())).get_charmap()
    short = [shortened(printable(name), WIDEST) for name in names]
    repeated = Counter(short)
    return [
        text if repeated[text] == 1 and all(ord(letter) in letters for letter in text) else f"class {number}"
        for number, text in enumerate(short)
    ]


def _legible(colour: tuple[float, ...]) -> str:
    """Return the colour of text, black or white, that has the higher contrast to a colour (WCAG 2.2)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


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
    _legend_below(axes, columns=3)


def _line_panel(axis: str) -> Panel:
    def draw(axes: Any, report: Report) -> None:
        lines = [series for series in report.series if series.axis == axis]
        colours: Any = require("matplotlib", "examples").colormaps["viridis"]
        for row, series in enumerate(lines):
            # of many lines, the colour goes from dark to light over those of one pooling
            pooling, _, layer = series.metric.removeprefix("accuracy_").partition("_layer_")
            own = [each for each in lines if each.metric.startswith(f"accuracy_{pooling}")]
            shade = colours(0.9 * own.index(series) / max(1, len(own) - 1))
            axes.plot(
                series.positions,
                series.values,
                "o-" if own[0] is lines[0] else "s--",
                color=f"C{row}" if len(lines) <= DISTINCT else shade,
                markersize=5,
                label=f"{pooling} pooling" + (f", layer {layer}" if layer else ""),
            )
        where = "layer (0 = embedded tokens)" if axis == "layer" else f"{axis} of the input"
        axes.set(xlabel=where, ylabel="accuracy", title=f"Accuracy by {axis}")
        if axis == "layer":
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        _legend_below(axes, columns=2 if len(lines) <= DISTINCT else 3)

    return draw


def _legend_below(axes: Any, columns: int) -> None:
    """Add the legend below the axes, where it covers nothing."""
    small = len(axes.get_legend_handles_labels()[1]) > DISTINCT
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=columns, fontsize=6.5 if small else 8)


def table_of(report: Report, name: str) -> Table:
    """Return the table of a report that has this name."""
    return next(table for table in report.tables if table.name == name)


def sorted_names(report: Report) -> list[str]:
    """Return the names of the classes of a report, in the order of their ids."""
    return [str(name) for name in report.settings["classes"]]
