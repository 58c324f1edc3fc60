"""Table, comparisons, profiles and plot of the study of the time of sampling."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from ..evaluation.report import format_table
from ..utils.errors import require
from ..utils.files import whole
from .claims_time import faster_with_blocks, saving_of_formula
from .design import Rows
from .measurements import markdown_table
from .verdicts import count_words

PROFILED = -1  # in place of a round: rows of profiles
DEVIATION = 1.5  # ratio of seconds per FLOP to those of one block beyond which a profile is shown
MARKERS = "os^Dv"


def report(setting: Mapping[str, Any], rows: Rows, folder: Path) -> tuple[str, tuple[Path, Path]]:
    """Write the table, the profiles and the plot, and return the table with the comparisons.

    Args:
        setting: settings of the study.
        rows: all rows, by tokens, blocks and round.
        folder: output folder.
    """
    medians = _medians(rows)
    table = [_line(key, medians) for key in medians]
    longest = max(tokens for tokens, _ in medians)
    listed = list(rows.values())
    counts = sorted({blocks for tokens, blocks in medians if tokens == longest})
    comparisons = faster_with_blocks(listed, longest, counts) + saving_of_formula(listed, longest, counts)
    compared = [comparison.row() for comparison in comparisons]
    words = count_words(comparisons, "round")
    network, machine = setting["network"], setting["machine"]
    rounds = len({number for _, _, number in rows} - {PROFILED})
    note = (
        f"Medians of {rounds} rounds on {machine['processor']} ({machine['device']}, {machine['threads']} "
        f"threads, torch {machine['torch']}), {setting['dtype']}: a sample in {setting['steps']} steps per "
        f"block with a cache, by a network of {network['num_layers']} layers and hidden size "
        f"{network['hidden_size']}, and one step of its last block. Saved fractions are relative to one "
        "block; those of the formula, (1 - B/L) / (2 + theta/(h L)), tend to 50% for long sequences and "
        "leave out the pass of finished blocks that fills the cache. Seconds per FLOP are relative to one "
        "block as well."
    )
    profiles = _profiles(rows, medians)
    page, plot = folder / "time.md", folder / "time.png"
    _plot(medians, plot)
    lines = ["# Time of sampling by number of blocks", "", note, "", *markdown_table(table), ""]
    lines += [words, "", *markdown_table(compared), ""]
    lines += [*profiles, "", f"![Seconds over the number of blocks]({plot.name})", ""]
    with whole(page) as temporary_path:
        temporary_path.write_text("\n".join(lines))
    parts = [format_table(table), note, words, format_table(compared), "\n".join(profiles)]
    return "\n\n".join(parts), (page, plot)


def _medians(rows: Rows) -> dict[tuple[int, int], dict[str, float]]:
    """Return the median times and the costs, by tokens and blocks."""
    groups: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for row in rows.values():
        if row["round"] != PROFILED:
            groups.setdefault((row["tokens"], row["blocks"]), []).append(row)
    return {
        key: {
            **{
                name: groups[key][0][name]
                for name in ("flops", "step_flops", "formula_flops", "formula_saving")
            },
            **{name: median(row[name] for row in groups[key]) for name in ("seconds", "step_seconds")},
        }
        for key in sorted(groups)
    }


def _line(key: tuple[int, int], medians: Mapping[tuple[int, int], Mapping[str, float]]) -> dict[str, str]:
    """Return a line of the table."""
    own, one = medians[key], medians[key[0], 1]
    saved = {name: f"{100 * (1 - own[name] / one[name]):.1f}" for name in ("seconds", "flops")}
    return {
        "tokens": f"{key[0]:,}",
        "blocks": str(key[1]),
        "seconds": f"{own['seconds']:.3g}",
        "block step, ms": f"{1000 * own['step_seconds']:.3g}",
        "GFLOPs": f"{own['flops'] / 1e9:.4g}",
        "GFLOPs of the formula": f"{own['formula_flops'] / 1e9:.4g}",
        "seconds saved, %": saved["seconds"],
        "FLOPs saved, %": saved["flops"],
        "saved by the formula, %": f"{100 * own['formula_saving']:.1f}",
        "seconds per FLOP": f"{_ratio(own, one, ''):.2f}",
        "the same of a step": f"{_ratio(own, one, 'step_'):.2f}",
    }


def _ratio(own: Mapping[str, float], one: Mapping[str, float], of: str) -> float:
    """Return seconds per FLOP relative to those of one block."""
    seconds, flops = f"{of}seconds", f"{of}flops"
    return own[seconds] / one[seconds] * one[flops] / own[flops]


def _profiles(rows: Rows, medians: Mapping[tuple[int, int], Mapping[str, float]]) -> list[str]:
    """Return lines with the operators of each setting whose seconds per FLOP are not those of one block."""
    deviating = set()
    for tokens, blocks in medians:
        ratios = [_ratio(medians[tokens, blocks], medians[tokens, 1], of) for of in ("", "step_")]
        if any(not 1 / DEVIATION <= ratio <= DEVIATION for ratio in ratios):
            deviating |= {(tokens, blocks), (tokens, 1)}
    if not deviating:
        return [f"Seconds per FLOP are within a factor of {DEVIATION} of those of one block everywhere."]
    lines = [
        f"Where seconds per FLOP deviate by a factor above {DEVIATION}, operators of a block step by time:",
        "",
    ]
    for tokens, blocks in sorted(deviating):
        operators = rows[tokens, blocks, PROFILED]["operators"]
        words = ", ".join(f"`{name}` {fraction:.0%}" for name, fraction in operators)
        lines.append(f"- {tokens:,} tokens, blocks: {blocks}: {words}")
    return lines


def _plot(medians: Mapping[tuple[int, int], Mapping[str, float]], path: Path) -> None:
    """Plot seconds, FLOPs and the formula relative to one block, a panel for each length."""
    figures: Any = require("matplotlib.figure", "examples")
    lengths = sorted({tokens for tokens, _ in medians})
    figure = figures.Figure(figsize=(4.2 * len(lengths) + 1, 4.2), layout="constrained")
    for axes, tokens in zip(
        figure.subplots(1, len(lengths), sharey=True, squeeze=False)[0], lengths, strict=True
    ):
        counts = [blocks for length, blocks in medians if length == tokens]
        one = medians[tokens, 1]
        relative = {
            "seconds of a sample": [medians[tokens, count]["seconds"] / one["seconds"] for count in counts],
            "FLOPs of a sample": [medians[tokens, count]["flops"] / one["flops"] for count in counts],
            "formula": [1 - medians[tokens, count]["formula_saving"] for count in counts],
        }
        for marker, (label, values) in zip(MARKERS, relative.items(), strict=False):
            axes.plot(counts, values, f"{marker}-", label=label)
        axes.axhline(0.5, color="grey", linestyle=":", label="limit of the formula")
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set(title=f"{tokens:,} tokens", xlabel="number of blocks", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.axes[0].set_ylabel("relative to one block")
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=110)
