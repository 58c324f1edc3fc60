"""Table, comparisons and plot of the study of text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ..evaluation.report import format_table
from ..metrics.paired import mean_interval
from ..utils.errors import require
from ..utils.files import whole
from .design import Rows
from .measurements import markdown_table
from .verdicts import HIGHER, Comparison, Expectation, Scores, compare, count_words, scores_of, trend

COUNTED, INDEPENDENT = "counted", "independent"  # masks of the training, as in `diffusion.masks`
ALONE, TOGETHER = "alone", "all"  # training of a network: on one block size, or on all of them
RANDOM_ORDER = "random"
ARMS: tuple[tuple[Literal["counted", "independent"], str], ...] = (
    (COUNTED, ALONE),
    (INDEPENDENT, ALONE),
    (COUNTED, TOGETHER),
)
LOWER = Expectation("lower")
SCORE = "bits_per_byte"


def report(blocks: Sequence[int], rows: Rows, folder: Path) -> tuple[str, tuple[Path, ...]]:
    """Write the table and the plot, and return the table with the comparisons.

    Args:
        blocks: block sizes in tokens.
        rows: all rows, by masks, training, order, block size and seed.
        folder: output folder.
    """
    scores, flops = _table(blocks, rows), _costs(rows)
    comparisons = compare_masks(blocks, rows) + compare_sizes(blocks, rows)
    compared = [comparison.row() for comparison in comparisons]
    note = (
        "Held-out bits per byte, by the bound of random order, which is summed exactly in blocks of up to 4 "
        f"tokens: means over the seeds with 95% t intervals. Training takes {flops} TFLOPs a network, in "
        "equally many steps; a single block needs no clean tokens."
    )
    page, plot = folder / "text.md", folder / "text.png"
    _plot(blocks, rows, plot)
    lines = ["# Likelihood of text by block size and masks", "", note, "", *markdown_table(scores), ""]
    lines += [count_words(comparisons), "", *markdown_table(compared), ""]
    with whole(page) as temporary_path:
        temporary_path.write_text("\n".join([*lines, f"![Bits per byte over block sizes]({plot.name})", ""]))
    tables = [format_table(scores), note, count_words(comparisons), format_table(compared)]
    return "\n\n".join(tables), (page, plot)


def compare_masks(blocks: Sequence[int], rows: Rows) -> list[Comparison]:
    """Compare counted with independent masks, of networks that are trained on one block size."""
    return [
        compare(
            f"bits per byte of counted against independent masks, blocks of {block}",
            _scores(rows, COUNTED, ALONE, block),
            _scores(rows, INDEPENDENT, ALONE, block),
            LOWER,
        )
        for block in blocks
    ]


def compare_sizes(blocks: Sequence[int], rows: Rows) -> list[Comparison]:
    """Test for every arm whether bits per byte rise with the block size."""
    return [
        trend(
            f"bits per byte over the block size, {_label(masks, trained)}",
            {block: _scores(rows, masks, trained, block) for block in blocks},
            HIGHER,
        )
        for masks, trained in ARMS
    ]


def _scores(rows: Rows, masks: str, trained: str, block: int, order: str = RANDOM_ORDER) -> Scores:
    """Return bits per byte by seed."""
    return scores_of(rows.values(), SCORE, masks=masks, trained=trained, order=order, block=block)


def _label(masks: str, trained: str) -> str:
    networks = "one network for all sizes" if trained == TOGETHER else "a network for each size"
    return f"{masks} masks, {networks}"


def _table(blocks: Sequence[int], rows: Rows) -> list[dict[str, str]]:
    """Return a line for each block size, with a column for each arm."""
    lines = []
    for block in blocks:
        line = {"tokens per block": str(block)}
        for masks, trained in ARMS:
            interval = mean_interval(list(_scores(rows, masks, trained, block).values()))
            half = "" if interval.low is None else f" ± {interval.mean - interval.low:.3f}"
            line[_label(masks, trained)] = f"{interval.mean:.3f}{half}"
        lines.append(line)
    return lines


def _costs(rows: Rows) -> str:
    """Return the range of the FLOPs of the training of a network, in TFLOPs."""
    flops = [row["training_flops"] for row in rows.values() if row["training_flops"] is not None]
    low, high = min(flops) / 1e12, max(flops) / 1e12
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _plot(blocks: Sequence[int], rows: Rows, path: Path) -> None:
    figures: Any = require("matplotlib.figure", "examples")
    figure = figures.Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    for (masks, trained), style in zip(ARMS, ("o-", "s--", "^:"), strict=True):
        intervals = [mean_interval(list(_scores(rows, masks, trained, block).values())) for block in blocks]
        axes.errorbar(
            range(len(blocks)),
            [interval.mean for interval in intervals],
            yerr=[0.0 if each.low is None else each.mean - each.low for each in intervals],
            fmt=style,
            capsize=3,
            label=_label(masks, trained),
        )
    axes.set_xticks(range(len(blocks)), [str(block) for block in blocks])
    axes.set(xlabel="tokens per block", ylabel="held-out bits per byte, 95% intervals over the seeds")
    axes.grid(alpha=0.3)
    axes.legend()
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=110)
