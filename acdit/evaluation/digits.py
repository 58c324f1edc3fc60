"""Scores of generated digits, beside the scores of real digits."""

from collections.abc import Sequence
from typing import Any

import torch

from ..data.digits import LABEL_NAMES, digit_images
from ..generation.batches import Sampling, draw_images
from ..metrics.distances import frechet
from ..metrics.neighbours import copied_share, coverage_density, nearest_ratio, spread
from ..model.layout import dims
from ..pipelines.image import ACDiTImagePipeline
from ..utils.errors import UserError
from .features.digit_classifier import DigitClassifier, load_digit_classifier
from .report import format_table
from .training_data import describe_training_data, is_trained_on

K = 5  # number of neighbours for coverage and density
LabelledImages = tuple[torch.Tensor, torch.Tensor]
"""Images (N, C, H, W) in [-1, 1] and labels (N,)."""


def score_digits(
    samples: torch.Tensor,
    labels: torch.Tensor,
    *,
    train: LabelledImages,
    held_out: LabelledImages,
    classifier: DigitClassifier,
) -> dict[str, float]:
    """Return scores of samples (N, 1, H, W) in [-1, 1] generated for labels (N,), ready for JSON.

    The best number of samples is the number of held-out digits. With fewer samples, the real digits for the
    comparison are reduced to the same number, because these scores depend on the sizes of the sets: compare
    only scores of equal numbers of samples.

    - `samples`: number of samples
    - `judge_accuracy_held_out`: fraction of all held-out digits that the classifier recognises; samples can
      reach it
    - `label_accuracy`: fraction of the samples that the classifier recognises as the requested digit
    - `judge_frechet_distance`: distance of the samples to the held-out digits, on classifier features; lower
      is better
    - `judge_coverage`, `judge_density`: coverage and density of the held-out digits, on classifier features;
      see `coverage_density`
    - `.._real`: the same for an equal number of training digits in place of the samples; samples can reach it
    - `memorisation_ratio_pixels`, `memorisation_ratio_judge`: see `nearest_ratio`; 1 = no memorisation,
      lower = copies
    - `copied_share_pixels`: fraction of the samples that copy any training digit; see `copied_share`

    Args:
        samples: generated digits.
        labels: requested labels.
        train: training digits.
        held_out: held-out digits.
        classifier: classifier of digits.

    Raises:
        UserError: if the samples have another shape than the held-out digits, or are too many or too few.
    """
    if samples.shape[1:] != held_out[0].shape[1:]:
        raise UserError(
            f"samples must have the shape of the held-out digits, (N, {dims(held_out[0].shape[1:], ', ')}), "
            f"not {tuple(samples.shape)}"
        )
    if labels.shape != samples.shape[:1]:
        raise UserError(f"{len(samples)} samples need as many labels, not {len(labels)}")
    count, max_count = len(samples), min(len(train[0]), len(held_out[0]))
    if not K < count <= max_count:
        raise UserError(
            f"the number of samples must be {K + 1} to {max_count}, the number of held-out digits, "
            f"not {count}"
        )
    pixels, pixels_train, pixels_held_out = samples.flatten(1), train[0].flatten(1), held_out[0].flatten(1)
    features, features_held_out = classifier.features(samples), classifier.features(held_out[0])
    features_train = classifier.features(spread(train[0], max_count))
    real, real_train = spread(features_held_out, count), spread(features_train, count)
    coverage, density = coverage_density(real, features, K)
    coverage_real, density_real = coverage_density(real, real_train, K)
    return {
        "samples": count,
        "judge_accuracy_held_out": _fraction(classifier.predict(held_out[0]) == held_out[1]),
        "label_accuracy": _fraction(classifier.predict(samples) == labels),
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


def _fraction(hits: torch.Tensor) -> float:
    return float(hits.double().mean())


DIGIT_SOURCES: dict[tuple[int, ...], str] = {
    (1, 8, 8): "digits",
    (1, 32, 32): "mnist",
}  # by channels, height and width


class Scorer:
    """Real digits of the size that a pipeline generates, and a classifier trained on them.

    Args:
        pipeline: pipeline that generates digits.
        samples: number of samples to score; None = the number of held-out digits.

    Raises:
        UserError: if the pipeline was not trained on digits, or `samples` exceeds the held-out ones.
    """

    def __init__(self, pipeline: ACDiTImagePipeline, samples: int | None):
        channels = pipeline.data_channels if pipeline.vae is None else pipeline.vae.config["in_channels"]
        sides = (side * pipeline.vae_scale_factor for side in pipeline.layout.size)
        source = DIGIT_SOURCES.get((channels, *sides))
        if source is None or not is_trained_on(pipeline, source, LABEL_NAMES):
            raise UserError(
                "only models of mnist (grey pixels, 32x32) or digits (8x8) with the classes 0 to 9 can be "
                f"scored, but {describe_training_data(pipeline)}"
            )
        self._training, self._held_out = digit_images(source), digit_images(source, held_out=True)
        self.labels = self._held_out[1]  # labels to request from the pipeline
        if samples is not None:
            if samples > len(self.labels):
                raise UserError(
                    f"--samples must be at most {len(self.labels)}, the number of held-out digits, "
                    f"not {samples}"
                )
            self.labels = self.labels[torch.arange(samples) * len(self.labels) // samples]
        self._classifier = load_digit_classifier(*self._training)

    def scores(self, images: torch.Tensor) -> dict[str, float]:
        """Return scores of images (N, 1, H, W) in [0, 1] generated for the labels; see `score_digits`."""
        return score_digits(
            2 * images - 1,
            self.labels,
            train=self._training,
            held_out=self._held_out,
            classifier=self._classifier,
        )


def evaluate_pipeline(
    pipeline: ACDiTImagePipeline,
    blocks: Sequence[Sequence[int]],
    sampling: Sampling,
    samples: int | None = None,
) -> list[dict[str, Any]]:
    """Generate digits with the labels of the held-out ones at each block size, and score them.

    Args:
        pipeline: pipeline that generates digits.
        blocks: block sizes in tokens, one for each row of scores.
        sampling: sampling settings.
        samples: number of digits; None = the number of held-out digits.

    Raises:
        UserError: see `Scorer`.
    """
    scorer = Scorer(pipeline, samples)
    rows = []
    for block in blocks:
        generated = draw_images(pipeline, scorer.labels.tolist(), sampling, block=block)
        facts = {
            "block": dims(block),
            "guidance": sampling.scale(pipeline),
            "evaluations": generated.evaluations,
        }
        cost = {"cache_bytes": generated.cache_bytes, "seconds": round(generated.seconds, 2)}
        rows.append({**facts, **cost, **scorer.scores(generated.images)})
    return rows


def score_table(rows: list[dict[str, Any]]) -> str:
    """Format the most important scores as a table that fits the width of a terminal."""
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
