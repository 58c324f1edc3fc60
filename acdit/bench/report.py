"""Report of the benchmark: lines of a table as rows are finished, and a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..utils.errors import require
from ..utils.files import whole
from .results import Result

COLUMNS = ("seconds", "min", "max", "ratio", "GFLOP", "roofline", "fraction")


def heading(machine: dict[str, Any], repeats: int, dtype: str) -> str:
    """Return the heading of the table: facts about the machine, meanings of the columns, and their names."""
    settings = " ".join(f"{name}={value}" for name, value in machine["settings"].items())
    lines = [
        f"{machine['processor']} ({machine['device']}), {machine['threads']} threads, {dtype}, "
        f"allocator {machine['allocator']}{', ' if settings else ''}{settings}, torch {machine['torch']}",
        f"seconds: median of {repeats} runs; ratio: speed-up over the first line of a row; roofline: seconds",
        "of the required FLOPs (published: its own) at the best rate of matrix products; fraction: roofline",
        "over seconds; peak: memory beyond weights, gradients, optimiser and moving average",
        "",
        f"{'row':26}{'variant':>10}{''.join(f'{name:>9}' for name in COLUMNS)}  memory",
    ]
    return "\n".join(lines)


def table_lines(result: Result) -> str:
    """Return a line for every contender of a row, and one about the row."""
    lines = []
    for contender in result.contenders:
        times = contender.times
        memory = ", ".join(f"{name} {size / 2**20:,.1f} MiB" for name, size in contender.bytes.items())
        numbers = (
            *(f"{seconds:.3g}" for seconds in (times.median, times.minimum, times.maximum)),
            *(f"{result.ratio(contender):.2f}", f"{contender.flops / 1e9:.3g}"),
            *(f"{result.roofline(contender):.3g}", f"{result.fraction(contender):.0%}"),
        )
        columns = "".join(f"{number:>9}" for number in numbers)
        lines.append(f"{result.row.name:26}{contender.name:>10}{columns}  {memory}".rstrip())
    error = max(contender.relative_error for contender in result.contenders)
    speed = ""
    if result.row.work == "text":
        speeds = [
            f"{contender.name} {result.tokens_per_second(contender):,.0f}" for contender in result.contenders
        ]
        speed = f"; tokens/s: {', '.join(speeds)}\n "
    lines.append(
        f"  {result.measured}{speed or ';'} matrix products {result.rate / 1e9:.4g} GFLOP/s; "
        f"outputs differ by {error:.1e}"
    )
    return "\n".join(lines)


def plot(results: Sequence[Result], path: Path) -> None:
    """Plot time against sequence length.

    There is a line for each contender and number of blocks, with its roofline dotted.

    Raises:
        UserError: if matplotlib is missing.
    """
    figures: Any = require("matplotlib.figure", "examples")
    measured = list(dict.fromkeys(result.measured for result in results))
    figure = figures.Figure(figsize=(6.5 * len(measured), 4.5), layout="constrained")
    for index, work in enumerate(measured):
        axes = figure.add_subplot(1, len(measured), index + 1)
        chosen = [result for result in results if result.measured == work]
        for blocks in sorted({result.row.tokens.num_blocks for result in chosen}):
            same_blocks = [result for result in chosen if result.row.tokens.num_blocks == blocks]
            _draw(
                axes,
                sorted(same_blocks, key=lambda result: result.row.tokens.num_tokens),
                f"{blocks} block{'s' * (blocks > 1)}",
            )
        ticks = sorted({result.row.tokens.num_tokens for result in chosen})
        axes.set(
            title=f"{work} (dotted: rooflines)", xlabel="tokens", ylabel="seconds", xscale="log", yscale="log"
        )
        axes.set_xticks(ticks, [f"{tokens:,}" for tokens in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=150)


def _draw(axes: Any, results: Sequence[Result], label: str) -> None:
    """Plot the medians of every contender with their spreads, and its rooflines dotted."""
    lengths = [result.row.tokens.num_tokens for result in results]
    for index, contender in enumerate(results[0].contenders):
        times = [result.contenders[index].times for result in results]
        medians = [each.median for each in times]
        below = [each.median - each.minimum for each in times]
        above = [each.maximum - each.median for each in times]
        name = f"{contender.name}, {label}"
        (line, *_) = axes.errorbar(lengths, medians, [below, above], marker="o", capsize=3, label=name)
        rooflines = [result.roofline(result.contenders[index]) for result in results]
        axes.plot(lengths, rooflines, ":", color=line.get_color())
