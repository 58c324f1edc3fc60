"""Plots of the study of understanding: accuracy against labels per class, and of probes by layer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..metrics.paired import mean_interval
from ..utils.errors import require
from ..utils.files import whole
from .finite_scores import finite

MARKERS = "os^Dvp*X"


def plot_labels(
    accuracies: Mapping[str, Mapping[int, Sequence[float]]], constant: Mapping[str, float], path: Path
) -> None:
    """Plot the accuracy of arms against the number of labels per class, with 95% intervals over the seeds.

    Args:
        accuracies: accuracies of each seed, by arm and labels per class.
        constant: accuracies of arms that saw all labels, drawn as horizontal lines.
        path: path of the PNG.
    """
    figures: Any = require("matplotlib.figure", "examples")
    figure = figures.Figure(figsize=(10, 5), layout="constrained")
    axes = figure.add_subplot()
    colours = require("matplotlib", "examples").colormaps["tab20"].colors
    axes.set_prop_cycle(color=[*colours[::2], *colours[1::2]])  # the usual ten, then lighter ones
    for marker, (arm, by_labels) in zip(MARKERS * 2, accuracies.items(), strict=False):
        places, means, errors = _percent(by_labels)
        style = "-" if "probe" not in arm else "--" if "clean" in arm else ":"
        axes.errorbar(places, means, yerr=errors, fmt=f"{marker}{style}", capsize=3, label=arm)
    for style, (arm, value) in zip((":", "--", "-."), constant.items(), strict=False):
        axes.axhline(100 * value, color="grey", linestyle=style, label=arm)
    counts = sorted({labels for by_labels in accuracies.values() for labels in by_labels})
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set(xlabel="labels per class", ylabel="accuracy on held-out digits, %")
    axes.grid(alpha=0.3)
    _legend(figure, axes)
    _save(figure, path)


def plot_layers(accuracies: Mapping[int, Mapping[str, Mapping[int, Sequence[float]]]], path: Path) -> None:
    """Plot the accuracy of probes by layer, one panel for each number of labels per class.

    Args:
        accuracies: accuracies of each seed, by labels per class, arm and layer.
        path: path of the PNG.
    """
    figures: Any = require("matplotlib.figure", "examples")
    figure = figures.Figure(figsize=(4 * len(accuracies) + 2, 4.2), layout="constrained")
    panels = figure.subplots(1, len(accuracies), sharey=True, squeeze=False)[0]
    for axes, (labels, arms) in zip(panels, accuracies.items(), strict=True):
        for marker, (arm, by_layer) in zip(MARKERS, arms.items(), strict=False):
            places, means, errors = _percent(by_layer)
            style = "-" if "clean" in arm else "--"
            axes.errorbar(
                places, means, yerr=errors, fmt=f"{marker}{style}", capsize=3, markersize=4, label=arm
            )
        axes.set(title=f"{labels} labels per class", xlabel="layer (0 = embedded tokens)")
        axes.set_xticks(list(next(iter(arms.values()))))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy on held-out digits, %")
    _legend(figure, panels[0])
    _save(figure, path)


def _legend(figure: Any, axes: Any) -> None:
    """Add the legend beside the axes, where it covers nothing; there is none if all runs diverged."""
    handles, names = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside right center", fontsize=8)


def _percent(values: Mapping[int, Sequence[float]]) -> tuple[list[int], list[float], list[float]]:
    """Return places, means and half widths of intervals in percent; 0 for a single seed.

    Runs that diverged are left out.
    """
    intervals = {place: mean_interval(finite(each)) for place, each in values.items() if finite(each)}
    halves = [0.0 if each.low is None else each.mean - each.low for each in intervals.values()]
    return list(intervals), [100 * each.mean for each in intervals.values()], [100 * half for half in halves]


def _save(figure: Any, path: Path) -> None:
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=130)
