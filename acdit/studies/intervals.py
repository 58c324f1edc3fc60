"""Study of the intervals of scores: how often they cover what they estimate, on simulated sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bench.timing import machine
from ..data.digits import digit_images
from ..evaluation.extraction import FeatureSet
from ..evaluation.features.digit_classifier import load_digit_classifier
from ..evaluation.features.extractor import FeatureInfo
from ..evaluation.intervals import INTERVALS, LEVEL
from ..evaluation.metric_table import METRICS, Sets
from ..evaluation.report import format_table
from ..metrics.distances import CMMD_SCALE, discrepancy, gaussian_kernel, own_sum
from ..metrics.statistics import Statistics, frechet_distance
from ..utils.files import whole
from ..utils.progress_bar import ProgressBar
from ..utils.randomness import generator
from .design import Design, Measurement, Rows
from .measurements import markdown_table

SIMULATIONS = 200
SIZES, LARGE = (200, 500, 1000), (4000,)
LARGE_SCORES = ("frechet_distance",)  # scores whose intervals may become right with many samples per feature
REFERENCE = 1000
ACCEPTED = (0.90, 0.985)  # coverages with which an interval is printed
SMOOTHING = 0.2  # noise of features of digits, relative to their standard deviations
METRIC_OF = {score: name for name, metric in METRICS.items() for score, _ in metric.scores}
TITLE = "# Coverage of the intervals"


@dataclass(frozen=True)
class Population:
    """Distribution of features whose samples are simulated.

    Attributes:
        draw: function (count, generator) that returns features (count, F).
        statistics: mean and covariance of the distribution.
        reference: features (M, F) that the samples are compared with.
    """

    draw: Callable[[int, torch.Generator], Tensor]
    statistics: Statistics
    reference: Tensor


def gaussian_population(width: int) -> Population:
    """Return Gaussian features of decreasing scales, shifted and wider than those of the reference."""
    scales = torch.logspace(0, -1, width, dtype=torch.float64)
    reference = torch.randn(REFERENCE, width, generator=generator("intervals", width)) * scales

    def draw(count: int, random: torch.Generator) -> Tensor:
        return ((1.2 * torch.randn(count, width, generator=random) + 0.2) * scales).float()

    statistics = Statistics(REFERENCE, 0.2 * scales, (1.2 * scales).square().diag())
    return Population(draw, statistics, reference.float())


def digit_population() -> Population:
    """Return features of training digits with noise, compared with those of held-out digits."""
    images, labels = digit_images("mnist")
    classifier = load_digit_classifier(images, labels)
    pool = classifier.features(images)
    reference = classifier.features(digit_images("mnist", held_out=True)[0])[:REFERENCE]
    noise = SMOOTHING * pool.double().std(dim=0) + 1e-3

    def draw(count: int, random: torch.Generator) -> Tensor:
        rows = torch.randint(len(pool), (count,), generator=random)
        return (pool[rows] + noise * torch.randn(count, len(noise), generator=random)).float()

    pool_statistics = Statistics.of(pool)
    covariance = pool_statistics.covariance * (len(pool) - 1) / len(pool) + noise.square().diag()
    statistics = Statistics(len(pool), pool_statistics.mean, covariance)
    return Population(draw, statistics, reference)


POPULATIONS: dict[str, Callable[[], Population]] = {
    "Gaussian, 16 features": partial(gaussian_population, 16),
    "digits, 64 features": digit_population,
}


def intervals_design(
    *,
    seed: int = 0,
    simulations: int = SIMULATIONS,
    sizes: tuple[int, ...] = SIZES,
    large: tuple[int, ...] = LARGE,
    populations: Mapping[str, Callable[[], Population]] = POPULATIONS,
) -> Design:
    """Return the design of the study: how often the intervals of every score cover its estimand.

    Args:
        seed: seed of the simulated sets.
        simulations: number of simulated sets.
        sizes: numbers of samples of a set.
        large: numbers of samples for which only `LARGE_SCORES` are measured.
        populations: functions that return the distributions of features, by name.
    """
    setting = {
        "seed": seed,
        "simulations": simulations,
        "sizes": list(sizes),
        "large": list(large),
        "reference": REFERENCE,
    }
    measurements = []
    for name, build in populations.items():
        population = cache(build)
        for size in sizes + large:
            scores = tuple(INTERVALS) if size in sizes else LARGE_SCORES
            measure = partial(_measure, name, population, size, scores, simulations, seed)
            measurements.append(Measurement(tuple((name, size, score) for score in scores), measure))
    keys, columns = ("population", "samples", "score"), ("features", "coverage", "estimand", "mean", "width")
    return Design("intervals", setting, keys, columns, measurements, partial(_report, simulations))


def _report(simulations: int, rows: Rows, folder: Path) -> tuple[str, tuple[Path]]:
    """Write the table as a page, and return it."""
    ordered = sorted(
        rows.values(), key=lambda row: (list(INTERVALS).index(row["score"]), row["features"], row["samples"])
    )
    page = folder / "coverage.md"
    with whole(page) as temporary_path:
        temporary_path.write_text(_page(ordered, simulations))
    return format_table([_line(row) for row in ordered]), (page,)


def _measure(
    name: str,
    build: Callable[[], Population],
    size: int,
    scores: tuple[str, ...],
    simulations: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Return a row for every score: coverage, and mean width of the intervals of simulated sets."""
    population = build()
    values: dict[str, list[float]] = {score: [] for score in scores}
    bounds: dict[str, list[tuple[float, float]]] = {score: [] for score in scores}
    reference = _features(population.reference)
    unbiased = []
    for number in ProgressBar(range(simulations), desc=f"{name}, {size} samples", unit="set", leave=False):
        samples = population.draw(size, generator(seed, "simulated", size, number))
        sets = Sets(_features(samples), reference)
        computed = {name: METRICS[name].compute(sets, 0) for name in {METRIC_OF[score] for score in scores}}
        for score in scores:
            names = [name for name, _ in METRICS[METRIC_OF[score]].scores]
            value = computed[METRIC_OF[score]][names.index(score)]
            interval = INTERVALS[score].interval(value, sets, number)
            values[score].append(value)
            bounds[score].append((interval.low, interval.high))
        if "cmmd" in scores:
            unbiased.append(discrepancy(samples, population.reference, gaussian_kernel, unbiased=True))
    estimands = {score: sum(column) / simulations for score, column in values.items()}
    if "frechet_distance" in scores:
        estimands["frechet_distance"] = frechet_distance(population.statistics, reference.statistics)
    if "cmmd" in scores:
        estimands["cmmd"] = CMMD_SCALE * (sum(unbiased) / simulations + _own_pairs(population.reference))
    return [
        {
            "population": name,
            "samples": size,
            "score": score,
            "features": population.reference.shape[1],
            "coverage": sum(low <= estimands[score] <= high for low, high in bounds[score]) / simulations,
            "estimand": estimands[score],
            "mean": sum(values[score]) / simulations,
            "width": sum(high - low for low, high in bounds[score]) / simulations,
        }
        for score in scores
    ]


def _features(values: Tensor) -> FeatureSet:
    info = FeatureInfo("simulated", "1", None, "none", "float32", "none needed")
    return FeatureSet(info, Statistics.of(values), values)


def _own_pairs(reference: Tensor) -> float:
    """Return by how much pairs of an item with itself raise the mean of the kernel of a reference."""
    count = len(reference)
    others = own_sum(reference, gaussian_kernel, with_itself=False)
    return (others + count) / count**2 - others / (count * (count - 1))


def accepted(coverage: float) -> bool:
    """Return whether intervals with a coverage are printed."""
    return ACCEPTED[0] <= coverage <= ACCEPTED[1]


def _line(row: Mapping[str, Any]) -> dict[str, object]:
    printed = INTERVALS[row["score"]].suits(row["samples"], row["features"])
    return {
        "score": row["score"],
        "features": row["population"],
        "samples": row["samples"],
        "estimand": row["estimand"],
        "mean value": row["mean"],
        "mean width": row["width"],
        "coverage": f"{row['coverage']:.3f}",
        "accepted": "yes" if accepted(row["coverage"]) else "no",
        "printed": "yes" if printed else "no",
    }


def _page(rows: Sequence[Mapping[str, Any]], simulations: int) -> str:
    """Return the table as a page of the documentation."""
    estimands = (f"- `{score}`: {method.estimand}" for score, method in INTERVALS.items())
    return "\n".join(
        [
            TITLE,
            "",
            f"Made by `acdit study intervals` on {machine(torch.device('cpu'))['processor']}. "
            f"Fraction of {simulations} simulated sets whose {LEVEL:.0%} interval holds the estimand, for "
            f"{REFERENCE} reference items. An interval is accepted if the fraction lies between "
            f"{ACCEPTED[0]} and {ACCEPTED[1]}; it is printed only for scores and numbers of samples for "
            "which it is accepted.",
            "",
            *estimands,
            "",
            *markdown_table([_line(row) for row in rows]),
            "",
        ]
    )
