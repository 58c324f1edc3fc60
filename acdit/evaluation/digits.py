"""Scores of generated digits beside what real digits score."""

from collections.abc import Mapping, Sequence

import torch

from ..errors import UserError
from ..layout import dims
from .distances import copied_share, coverage_density, frechet, nearest_ratio, spread
from .judge import Judge

K = 5  # neighbours of coverage and density
LabelledImages = tuple[torch.Tensor, torch.Tensor]
"""Images (N, C, H, W) in [-1, 1] and labels (N,)."""


def score_digits(
    samples: torch.Tensor,
    labels: torch.Tensor,
    *,
    train: LabelledImages,
    held_out: LabelledImages,
    judge: Judge,
) -> dict[str, float]:
    """Scores of samples (N, 1, H, W) in [-1, 1] that were asked for with labels (N,), ready for JSON.

    The best number of samples is that of the held-out digits. With fewer, the real digits that they are
    compared with are cut to as many, because these scores depend on the sizes of the sets: compare only
    scores of as many samples. Raises UserError for samples of another shape, for more, and for too few.

    - `samples`: how many there are
    - `judge_accuracy_held_out`: share of all held-out digits that the judge recognises; samples can reach it
    - `label_accuracy`: share of the samples that the judge takes for the digit that was asked for
    - `judge_frechet_distance`: of the samples to the held-out digits, on judge features; lower is better
    - `judge_coverage`, `judge_density`: of the held-out digits, on judge features; see `coverage_density`
    - `.._real`: the same for as many training digits in place of the samples; samples can reach it
    - `memorisation_ratio_pixels`, `memorisation_ratio_judge`: see `nearest_ratio`; 1 = none, lower = copies
    - `copied_share_pixels`: share of the samples that copy any training digit; see `copied_share`
    """
    if samples.shape[1:] != held_out[0].shape[1:] or labels.shape != samples.shape[:1]:
        raise UserError(
            f"samples must be (N, {dims(held_out[0].shape[1:], ', ')}) like held-out digits, with N labels, "
            f"not {tuple(samples.shape)} with {len(labels)}"
        )
    count, most = len(samples), min(len(train[0]), len(held_out[0]))
    if not K < count <= most:
        raise UserError(f"there must be {K + 1} to {most} samples, as many as held-out digits, not {count}")
    pixels, pixels_train, pixels_held_out = samples.flatten(1), train[0].flatten(1), held_out[0].flatten(1)
    features, features_held_out = judge.features(samples), judge.features(held_out[0])
    features_train = judge.features(spread(train[0], most))
    real, real_train = spread(features_held_out, count), spread(features_train, count)
    coverage, density = coverage_density(real, features, K)
    coverage_real, density_real = coverage_density(real, real_train, K)
    return {
        "samples": count,
        "judge_accuracy_held_out": _share(judge.predict(held_out[0]) == held_out[1]),
        "label_accuracy": _share(judge.predict(samples) == labels),
        "judge_frechet_distance": frechet(features, real),
        "judge_frechet_distance_real": frechet(real_train, real),
        "judge_coverage": coverage,
        "judge_coverage_real": coverage_real,
        "judge_density": density,
        "judge_density_real": density_real,
        "memorisation_ratio_pixels": nearest_ratio(pixels, pixels_train, pixels_held_out),
        "memorisation_ratio_judge": nearest_ratio(features, features_train, features_held_out),
        "copied_share_pixels": copied_share(pixels, pixels_train),
    }


def format_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Plain text table of rows with the keys of the first: text on the left, numbers on the right."""
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        cells = [name, *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values)]
        width = max(map(len, cells))
        text = all(isinstance(value, str) for value in values)
        columns.append([cell.ljust(width) if text else cell.rjust(width) for cell in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _share(hits: torch.Tensor) -> float:
    return float(hits.double().mean())
