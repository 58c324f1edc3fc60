"""Scores of generated digits beside what real digits score."""

from collections.abc import Sequence
from typing import Any

import torch

from ..data.digits import digit_images
from ..generation.batches import Sampling, draw_images
from ..metrics.distances import copied_share, coverage_density, frechet, nearest_ratio, spread
from ..model.layout import dims
from ..pipelines.image import ACDiTImagePipeline
from ..utils.errors import UserError
from .features.digit_classifier import Judge, load_judge
from .report import format_table

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


def _share(hits: torch.Tensor) -> float:
    return float(hits.double().mean())


SCORED: dict[tuple[int, ...], str] = {
    (1, 8, 8): "digits",
    (1, 32, 32): "mnist",
}  # by channels, height and width


class Scorer:
    """Real digits of the size that a pipeline draws, and a judge that was trained on them.

    Args:
        pipeline: draws digits.
        samples: that will be scored; None = as many as are held out.

    Raises:
        UserError: if the pipeline does not draw digits, or fewer are held out.
    """

    def __init__(self, pipeline: ACDiTImagePipeline, samples: int | None):
        channels = pipeline.data_channels if pipeline.vae is None else pipeline.vae.config["in_channels"]
        edges = (edge * pipeline.vae_scale_factor for edge in pipeline.layout.size)
        source = SCORED.get((channels, *edges))
        if source is None:
            raise UserError(
                "acdit scores models of the digits alone: mnist (32x32) and digits (8x8), both grey"
            )
        self._training, self._held_out = digit_images(source), digit_images(source, held_out=True)
        self.labels = self._held_out[1]  # to ask the pipeline for
        if samples is not None:
            if samples > len(self.labels):
                raise UserError(
                    f"--samples must be at most {len(self.labels)}, the digits that are held out, "
                    f"not {samples}"
                )
            self.labels = self.labels[torch.arange(samples) * len(self.labels) // samples]
        self._judge = load_judge(*self._training)

    def scores(self, images: torch.Tensor) -> dict[str, float]:
        """Of images (N, 1, H, W) in [0, 1], drawn for the labels; see `score_digits`."""
        return score_digits(
            2 * images - 1, self.labels, train=self._training, held_out=self._held_out, judge=self._judge
        )


def evaluate_pipeline(
    pipeline: ACDiTImagePipeline,
    blocks: Sequence[Sequence[int]],
    sampling: Sampling,
    samples: int | None = None,
) -> list[dict[str, Any]]:
    """Draw digits with the labels of held-out ones at each block size, and score them.

    Args:
        pipeline: that draws.
        blocks: tokens of a block, once for each row of scores.
        sampling: how.
        samples: digits; None = as many as are held out.

    Raises:
        UserError: see `Scorer`.
    """
    scorer = Scorer(pipeline, samples)
    rows = []
    for block in blocks:
        drawn = draw_images(pipeline, scorer.labels.tolist(), sampling, block=block)
        facts = {"block": dims(block), "guidance": sampling.scale(pipeline), "evaluations": drawn.evaluations}
        cost = {"cache_bytes": drawn.cache_bytes, "seconds": round(drawn.seconds, 2)}
        rows.append({**facts, **cost, **scorer.scores(drawn.images)})
    return rows


def score_table(rows: list[dict[str, Any]]) -> str:
    """The scores that matter most, in the width of a terminal."""
    names = {
        "block": "block",
        "guidance": "guidance",
        "evaluations": "evaluations",
        "seconds": "seconds",
        "label_accuracy": "accuracy",
        "judge_coverage": "coverage",
        "judge_density": "density",
        "judge_frechet_distance": "frechet",
        "judge_frechet_distance_real": "(real)",
        "memorisation_ratio_pixels": "memorisation",
    }
    return format_table([{short: row[name] for name, short in names.items()} for row in rows])
