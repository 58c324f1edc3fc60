"""Plot of generated texts over temperatures: perplexity and other scores over entropy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..utils.errors import UserError, require
from ..utils.files import check_writable, whole
from .report import Report

OVER = ("generative_perplexity", "frechet_distance", "distinct_2", "self_repetition")
ENTROPIES = ("evaluator_entropy", "token_entropy", "word_entropy")  # the first that there is
NAMES = {
    "generative_perplexity": "generative perplexity",
    "frechet_distance": "Fréchet distance of sentence features",
    "distinct_2": "distinct-2 of words",
    "self_repetition": "self-repetition",
    "evaluator_entropy": "entropy of the language model's tokens in nats",
    "token_entropy": "entropy of the model's tokens in nats",
    "word_entropy": "entropy of words in nats",
}


def check_plot(path: Path | None, metrics: Sequence[str] | None) -> None:
    """Raise UserError if the plot cannot be drawn or written; call it before the work that would be lost.

    Args:
        path: PNG file; None = no plot.
        metrics: names of the metrics that are computed; None = all.
    """
    if path is None:
        return
    require("matplotlib", "examples")
    check_writable(path)
    if metrics is not None and not (set(metrics) & set(ENTROPIES) and set(metrics) & set(OVER)):
        raise _nothing()


def plot_temperatures(reports: Sequence[Report], path: Path) -> None:
    """Plot series over temperatures as curves over entropy, with a star where real texts lie.

    Curves of samplers can be compared at equal entropy, which single values of perplexity cannot (arXiv
    2604.02718). There is a panel for each score, and a curve for each report.

    Args:
        reports: reports with series over temperatures, such as those of several block sizes.
        path: PNG file to write.

    Raises:
        UserError: if there is no series of entropy, or of a score.
    """
    curves = [report for report in reports if any(each.axis == "temperature" for each in report.series)]
    named = [{each.metric: each for each in report.series} for report in curves]
    entropy = next((name for name in ENTROPIES if named and all(name in each for each in named)), None)
    scores = [name for name in OVER if named and all(name in each for each in named)]
    if entropy is None or not scores:
        raise _nothing()
    figures: Any = require("matplotlib.figure", "examples")
    figure = figures.Figure(figsize=(4.6 * len(scores), 4.2), layout="constrained")
    panels = figure.subplots(1, len(scores), squeeze=False)[0]
    for panel, score in zip(panels, scores, strict=True):
        for report, series in zip(curves, named, strict=True):
            x, y = series[entropy], series[score]
            label = f"blocks of {report.settings['block']}" if "block" in report.settings else "samples"
            panel.plot(x.values, y.values, marker="o", markersize=4, label=label)
            for temperature, *place in zip(x.positions, x.values, y.values, strict=True):
                panel.annotate(
                    f"{temperature:g}", place, xytext=(4, 4), textcoords="offset points", fontsize=7
                )
        x, y = named[0][entropy], named[0][score]
        if x.real is not None and y.real is not None:
            panel.plot(x.real[0], y.real[0], "*", color="black", markersize=13, label="held-out texts")
        panel.set(xlabel=NAMES[entropy], ylabel=NAMES[score])
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.suptitle("Generated texts over sampling temperatures (numbers beside the points)", fontsize=10)
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, dpi=130, format="png")


def _nothing() -> UserError:
    return UserError(
        f"there is nothing to plot: a plot needs one of the metrics {', '.join(ENTROPIES)}, and one of "
        f"{', '.join(OVER)}, for every temperature"
    )
