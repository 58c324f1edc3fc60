"""Plot training curves of one or more runs in one figure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..diffusion.objective import TRAIN_STEPS
from ..utils.errors import UserError, require
from .log import RunLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind people can distinguish. Its yellow is left out, because it is
# too faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")  # line styles for more runs than colours
INK, GREY, FAINT = "#333333", "#808080", "#e6e6e6"
RAW: dict[str, Any] = {"lw": 0.6, "alpha": 0.3}
SMOOTH: dict[str, Any] = {"lw": 1.8}
VALIDATION: dict[str, Any] = {"lw": 0.9, "marker": "o", "ms": 4.5, "mfc": "white", "zorder": 4}
MOST_POINTS = 4000  # maximum per line; more would exceed the resolution of the figure
TICKS = (1, 2, 3, 5)  # tick positions within a decade
ROUND = (1, 2, 5, 10)  # intervals between ticks


def draw_curves(logs: Mapping[str, RunLog], smooth: float) -> "Figure":
    """Plot loss, learning rate and throughput of runs, and the parts of each run's last validation.

    For classifiers, the accuracy of every validation is plotted too, and that of each head in the last one.

    Args:
        logs: Logs of the runs, by the name to show.
        smooth: Smoothing factor from 0 (none) to below 1, see `smoothed`.

    Raises:
        UserError: If a log contains no step, or matplotlib is not installed.
    """
    require("matplotlib", "track")
    from matplotlib.figure import Figure

    for name, log in logs.items():
        if not log.steps:
            raise UserError(f"{name} has no step in its log yet: plot its curves once steps are logged")
    validated = any(log.validations for log in logs.values())
    rows: list[Any] = [["loss", "loss"], ["rate", "speed"]]
    heights = [2.2, 1.0]
    validations = [each for log in logs.values() for each in log.validations]
    for parts, key in ((["block", "timestep"], "by_block"), (["accuracy", "head"], "accuracy")):
        if any(each.get(key) is not None for each in validations):
            rows, heights = [*rows, parts], [*heights, 1.2]
    figure = Figure(figsize=(11, 0.5 + 2.1 * sum(heights)), dpi=150, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
    panels: dict[str, Axes] = figure.subplot_mosaic(rows, height_ratios=heights)
    for index, log in enumerate(logs.values()):
        style = {
            "color": COLOURS[index % len(COLOURS)],
            "ls": DASHES[index // len(COLOURS) % len(DASHES)],
        }
        for panel, key in (("loss", "loss"), ("speed", "images_per_second")):
            steps, values = column(log.steps, key)
            panels[panel].plot(*_thinned(steps, values), **style, **RAW)
            panels[panel].plot(*_thinned(steps, smoothed(values, smooth)), **style, **SMOOTH)
        panels["rate"].plot(*_thinned(*column(log.steps, "learning_rate")), **style, **SMOOTH)
        if log.validations:
            panels["loss"].plot(*column(log.validations, "loss"), **style, **VALIDATION)
            last = log.validations[-1]
            if "block" in panels:
                _plot_parts(panels, last, style)
            if "accuracy" in panels:
                by_head = last.get("accuracy_by_head") or []
                panels["accuracy"].plot(*column(log.validations, "accuracy"), **style, **VALIDATION)
                panels["head"].plot(*_numbers(range(len(by_head)), by_head), **style, **VALIDATION)
    _style_panels(panels)
    _legends(figure, panels["loss"], list(logs), validated)
    return figure


def _plot_parts(panels: "Mapping[str, Axes]", last: Mapping[str, Any], style: dict[str, Any]) -> None:
    """Plot the loss by block and by timestep of a validation."""
    by_block, by_timestep = last.get("by_block") or [], last.get("by_timestep") or []
    panels["block"].plot(*_numbers(range(len(by_block)), by_block), **style, **VALIDATION)
    centres = [(part + 0.5) * TRAIN_STEPS / len(by_timestep) for part in range(len(by_timestep))]
    panels["timestep"].plot(*_numbers(centres, by_timestep), **style, **SMOOTH)
    panels["timestep"].set_xlim(0, TRAIN_STEPS)


def column(entries: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Return the steps and values of the entries that have a value for `key`."""
    return _numbers([entry["step"] for entry in entries], [entry.get(key) for entry in entries])


def smoothed(values: Sequence[float], smooth: float) -> list[float]:
    """Return a weighted mean of each value and its neighbours.

    Neighbours on both sides count, so that the mean does not lag behind a falling loss. With each entry
    further away, the weight is multiplied by `smooth`. The factor is smaller among the first entries, where a
    loss falls fastest: at most i / (i + 9) between the entries i - 1 and i.
    """
    factors = [min(smooth, index / (index + 9)) for index in range(len(values))]
    before = _sums(values, factors)
    after = _sums(values[::-1], [*factors[1:], *factors[:1]][::-1])[::-1]
    return [
        (total + other - value) / (weight + other_weight - 1)  # both sums contain the value itself
        for value, (total, weight), (other, other_weight) in zip(values, before, after, strict=True)
    ]


def _sums(values: Sequence[float], factors: Sequence[float]) -> list[tuple[float, float]]:
    """Return running sums of the weighted values and of their weights.

    At each value, the sums so far are multiplied by its entry of `factors` before the value is added.
    """
    sums, total, weight = [], 0.0, 0.0
    for value, factor in zip(values, factors, strict=True):
        total, weight = factor * total + value, factor * weight + 1
        sums.append((total, weight))
    return sums


def _numbers(positions: Sequence[float], values: Sequence[float | None]) -> tuple[list[float], list[float]]:
    """Return positions and values, without those that have no value."""
    pairs = [
        (position, value) for position, value in zip(positions, values, strict=True) if value is not None
    ]
    return [position for position, _ in pairs], [value for _, value in pairs]


def _thinned(steps: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    stride = -(-len(steps) // MOST_POINTS) or 1
    return steps[::stride], values[::stride]


def _style_panels(panels: "Mapping[str, Axes]") -> None:
    """Set the titles, the scales and a faint grid."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    titles = {
        "loss": ("loss", "step"),
        "rate": ("learning rate", "step"),
        "speed": ("images per second", "step"),
        "block": ("loss by block, last validation", "block"),
        "timestep": ("loss by timestep, last validation", "timestep (0 = data)"),
        "accuracy": ("accuracy of the best head", "step"),
        "head": ("accuracy by head, last validation", "head"),
    }
    for name, panel in panels.items():
        title, axis = titles[name]
        panel.set_title(title, loc="left", color=INK, fontsize=11, fontweight="bold")
        panel.set_xlabel(axis, color=GREY, fontsize=9)
        panel.tick_params(colors=GREY, labelsize=9, length=0)
        panel.grid(axis="y", color=FAINT, lw=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.spines["bottom"].set_color(FAINT)
        panel.xaxis.set_major_locator(MaxNLocator(7, steps=ROUND, integer=True))
        if name in ("loss", "timestep"):
            _set_log_scale(panel)
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
        panel.margins(x=0.02)
        if not any(np.size(line.get_xdata()) for line in panel.lines):
            panel.set_yticks([])
            panel.text(0.5, 0.5, "not in the log", transform=panel.transAxes, ha="center", color=GREY)
        elif name in ("rate", "speed"):
            panel.yaxis.set_major_locator(MaxNLocator(4, steps=ROUND))
            panel.set_ylim(bottom=0)
        if axis == "step":
            panel.xaxis.set_major_formatter(EngFormatter(sep=""))


def _set_log_scale(panel: "Axes") -> None:
    """Use a logarithmic scale if the values differ by more than a factor of 3."""
    from matplotlib.ticker import LogLocator

    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in panel.lines])
    values = values[np.isfinite(values)]
    if len(values) and 0 < 3 * values.min() < values.max():
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=TICKS))


def _legends(figure: "Figure", panel: "Axes", names: list[str], validated: bool) -> None:
    """Add a legend of the runs above all panels, and one of thin and thick lines in one panel."""
    from matplotlib.lines import Line2D

    small = {"frameon": False, "labelcolor": INK}
    colours = [
        Line2D(
            [], [], color=COLOURS[index % len(COLOURS)], ls=DASHES[index // len(COLOURS) % len(DASHES)], lw=3
        )
        for index in range(len(names))
    ]
    legend = figure.legend(colours, names, loc="outside upper left", ncols=4, fontsize=10, **small)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a `$` in the name of a folder
    styles = {"each entry": RAW, "smoothed": SMOOTH} | ({"validation": VALIDATION} if validated else {})
    lines = [Line2D([], [], color=GREY, **style) for style in styles.values()]
    panel.legend(lines, list(styles), loc="upper right", fontsize=9, **small)
