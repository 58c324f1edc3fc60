"""Plot of the verdicts on all claims: how far each comparison is from being undecided."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..utils.errors import require
from ..utils.files import whole
from .reproduction import Finding
from .verdicts import CONFIRMED, NOT_MEASURED, REFUTED, Comparison, Verdict

COLOURS: dict[Verdict, str] = {CONFIRMED: "#0072b2", REFUTED: "#d55e00"}  # also apart for the colour-blind
GREY = "#8a8a8a"
FARTHEST = 20.0  # half-widths; what lies farther is drawn at the border
TICKS = (-10, -3, -1, 0, 1, 3, 10)


def distance(comparison: Comparison) -> float | None:
    """Return how far a difference lies inside what is expected, in half-widths of its 95% interval.

    Above 1, the whole interval is as expected; below -1, it contradicts what is expected; in between, it
    decides nothing. Scores that should be equal are at most one margin inside; those that are better by more
    than the margin, which is no contradiction, have a distance above -1.

    Returns:
        The distance, infinite for an interval without width; None without an interval.
    """
    found, expected = comparison.difference, comparison.expected
    if found is None or found.low is None or found.high is None:
        return None
    margin = math.log1p(expected.margin) if expected.relative else expected.margin
    down = expected.effect == "lower" or (expected.effect == "equal" and expected.worse == "higher")
    better = -found.mean if down else found.mean  # as if higher scores were expected, or better
    inside = margin - abs(better) if expected.effect == "equal" else better - margin
    half = (found.high - found.low) / 2
    value = inside / half if half else math.copysign(math.inf, inside) if inside else 0.0
    return max(value, -1.0) if expected.effect == "equal" and better > 0 else value


def plot_findings(findings: Sequence[Finding], path: Path) -> None:
    """Draw a row for each claim with a point for each of its comparisons, and write a PNG file.

    Args:
        findings: claims with their comparisons.
        path: path of the file.

    Raises:
        UserError: if matplotlib is missing.
    """
    figures: Any = require("matplotlib.figure", "examples")
    ticker: Any = require("matplotlib.ticker", "examples")
    figure = figures.Figure(figsize=(10, 1.3 + 0.32 * len(findings)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(-1, 1, color="0.92", zorder=0)
    for row, finding in enumerate(findings):
        axes.axhline(row, color="0.9", linewidth=0.8, zorder=0.5)
        for comparison in finding.comparisons:
            if (value := distance(comparison)) is not None:
                place = max(-FARTHEST, min(FARTHEST, value))
                colour = COLOURS.get(comparison.verdict, GREY)
                axes.plot(place, row, "o", color=colour, markersize=8, markeredgecolor="white")
        axes.text(
            1.01,
            row,
            finding.verdict,
            transform=axes.get_yaxis_transform(),
            va="center",
            color="0.6" if finding.verdict == NOT_MEASURED else COLOURS.get(finding.verdict, "0.3"),
            fontweight="normal" if finding.verdict == NOT_MEASURED else "bold",
        )
    axes.set_yticks(range(len(findings)), [_title(finding) for finding in findings])
    axes.set_ylim(len(findings) - 0.4, -0.6)
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_xlim(-1.3 * FARTHEST, 1.3 * FARTHEST)
    axes.xaxis.set_major_locator(ticker.FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(
        "distance of each comparison from its bound, in half-widths of the 95% interval\n"
        "left of the band: refuted · in the band: undecided · right of it: confirmed"
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=120)


def _title(finding: Finding) -> str:
    """Return the title of a claim with its source."""
    return f"{finding.claim.title} ({finding.claim.source.replace('section', 'sec.')})"
