"""Table, comparisons and plot of the study of text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..diffusion.orders import LEFT, LOWEST_ENTROPY, RANDOM
from ..evaluation.report import format_table
from ..metrics.paired import mean_interval
from ..utils.errors import require
from ..utils.files import whole
from .claims_text import ALONE, BITS, COUNTED, INDEPENDENT, LEARNED, TOGETHER, TOTAL
from .design import Rows
from .finite_scores import finite, with_interval
from .learned import if_learned
from .measurements import markdown_table
from .verdicts import (
    HIGHER,
    LOWER,
    Comparison,
    Scores,
    compare,
    count_words,
    scores_of,
    trend,
)


class Arm(NamedTuple):
    """Training of a network: its masks, and `ALONE`, `TOGETHER` or `TOTAL`."""

    masks: Literal["counted", "independent"]
    trained: str


ARMS = (Arm(COUNTED, ALONE), Arm(INDEPENDENT, ALONE), Arm(COUNTED, TOGETHER), Arm(COUNTED, TOTAL))
COLUMNS: dict[tuple[Arm, str], str] = {  # an arm and an order of revealing: name of the column
    (ARMS[0], RANDOM): "counted masks",
    (ARMS[1], RANDOM): "independent masks",
    (ARMS[2], RANDOM): "counted masks, all sizes",
    (ARMS[3], RANDOM): "counted masks, all sizes, steps of all",
    (ARMS[0], LEFT): "counted masks, left to right",
    (ARMS[2], LEFT): "counted masks, all sizes, left to right",
    (ARMS[0], LOWEST_ENTROPY): "counted masks, most certain first",
    (ARMS[2], LOWEST_ENTROPY): "counted masks, all sizes, most certain first",
}
WORDS = {LEFT: "left to right", LOWEST_ENTROPY: "most certain first"}


def report(blocks: Sequence[int], rows: Rows, folder: Path) -> tuple[str, tuple[Path, ...]]:
    """Write the table and the plot, and return the table with the comparisons.

    Args:
        blocks: block sizes in tokens.
        rows: all rows, by masks, training, order, block size and seed.
        folder: output folder.
    """
    measured = {
        name: {block: scores for block in blocks if (scores := _scores(rows, arm, block, order))}
        for (arm, order), name in COLUMNS.items()
    }
    comparisons = compare_masks(blocks, rows) + compare_sizes(blocks, rows) + compare_orders(blocks, rows)
    comparisons = if_learned(comparisons, LEARNED, _scores(rows, ARMS[0], min(blocks)))
    scores, compared = _table(blocks, measured), [comparison.row() for comparison in comparisons]
    note = (
        "Held-out bits per byte, means over the seeds with 95% t intervals. Networks are trained on one "
        "block size each, or a single one on all sizes, in the steps of one of the others or of all of "
        "them. From left to right, or the most certain token first, "
        "the bits are exact. Elsewhere tokens are revealed in random order, and the bits are an upper bound, "
        "summed exactly in blocks of up to 4 tokens. "
        f"Training takes {_costs(rows)} TFLOPs a network; a single block needs no clean tokens."
    )
    page, plot = folder / "text.md", folder / "text.png"
    _plot(blocks, measured, plot)
    lines = ["# Likelihood of text by block size, masks and order", "", note, "", *markdown_table(scores), ""]
    lines += [count_words(comparisons), "", *markdown_table(compared), ""]
    with whole(page) as temporary_path:
        temporary_path.write_text("\n".join([*lines, f"![Bits per byte over block sizes]({plot.name})", ""]))
    tables = [format_table(scores), note, count_words(comparisons), format_table(compared)]
    return "\n\n".join(tables), (page, plot)


def compare_masks(blocks: Sequence[int], rows: Rows) -> list[Comparison]:
    """Compare counted with independent masks, of networks that are trained on one block size."""
    counted, independent, *_ = ARMS
    return [
        compare(
            f"counted against independent masks, blocks of {block}",
            _scores(rows, counted, block),
            _scores(rows, independent, block),
            LOWER,
        )
        for block in blocks
    ]


def compare_sizes(blocks: Sequence[int], rows: Rows) -> list[Comparison]:
    """Test for every arm whether bits per byte rise with the block size, in random order."""
    return [
        trend(
            f"larger blocks, {COLUMNS[arm, RANDOM]}",
            {block: _scores(rows, arm, block) for block in blocks},
            HIGHER,
        )
        for arm in ARMS
    ]


def compare_orders(blocks: Sequence[int], rows: Rows) -> list[Comparison]:
    """Compare other orders with random order, where blocks have an order and both are measured."""
    return [
        compare(
            f"{WORDS[order]} against random order, {COLUMNS[arm, RANDOM]}, blocks of {block}",
            ordered,
            _scores(rows, arm, block),
            LOWER,
        )
        for arm, order in COLUMNS
        if order in WORDS
        for block in blocks
        if block > 1 and (ordered := _scores(rows, arm, block, order))
    ]


def _scores(rows: Rows, arm: Arm, block: int, order: str = RANDOM) -> Scores:
    """Return bits per byte by seed."""
    return scores_of(rows.values(), BITS, **arm._asdict(), order=order, block=block)


def _table(blocks: Sequence[int], measured: Mapping[str, Mapping[int, Scores]]) -> list[dict[str, str]]:
    """Return a line for each block size, with a column for each arm and order."""
    lines = []
    for block in blocks:
        line = {"tokens per block": str(block)}
        for name, by_block in measured.items():
            line[name] = ""
            if block in by_block:
                line[name] = with_interval(list(by_block[block].values()), ".3f", ".3f")
        lines.append(line)
    return lines


def _costs(rows: Rows) -> str:
    """Return the range of the FLOPs of the training of a network, in TFLOPs."""
    flops = finite(row["training_flops"] for row in rows.values())
    if not flops:
        return "an unknown number of"
    low, high = min(flops) / 1e12, max(flops) / 1e12
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _plot(blocks: Sequence[int], measured: Mapping[str, Mapping[int, Scores]], path: Path) -> None:
    """Plot means with 95% intervals over the seeds; runs that diverged are left out."""
    figures: Any = require("matplotlib.figure", "examples")
    figure = figures.Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    styles = ("o-", "s--", "^-", "D-", "v:", "<:", "*-.", "x-.")
    for (name, by_block), style in zip(measured.items(), styles, strict=True):
        intervals = {
            block: mean_interval(values)
            for block, scores in by_block.items()
            if (values := finite(scores.values()))
        }
        if not intervals:
            continue
        axes.errorbar(
            [blocks.index(block) for block in intervals],
            [interval.mean for interval in intervals.values()],
            yerr=[0.0 if each.low is None else each.mean - each.low for each in intervals.values()],
            fmt=style,
            capsize=3,
            label=name,
        )
    axes.set_xticks(range(len(blocks)), [str(block) for block in blocks])
    axes.set(xlabel="tokens per block", ylabel="held-out bits per byte, 95% intervals over the seeds")
    axes.grid(alpha=0.3)
    axes.legend()
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=110)
