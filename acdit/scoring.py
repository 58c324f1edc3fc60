"""Draw with a pipeline, and score what it draws where there are real digits to compare with."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm

from .data.digits import digit_images
from .errors import UserError
from .evaluation.digits import format_table, score_digits
from .evaluation.judge import load_judge
from .layout import dims
from .options import EvaluateOptions, RunOptions
from .pipelines.base import ACDiTPipeline
from .pipelines.image import ACDiTImagePipeline
from .sample_sets import guidance_of

MOST_CLASSES = 10  # that are drawn when none is named
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
    pipeline: ACDiTImagePipeline, blocks: list[tuple[int, ...]], options: EvaluateOptions
) -> list[dict[str, Any]]:
    """Draw as many digits as are held out, with their labels, at each block size; and score them."""
    scorer = Scorer(pipeline, options.samples)
    rows = []
    for block in blocks:
        images, evaluations, cache, seconds = draw(
            pipeline, scorer.labels.tolist(), options, block=block, output_type="pt"
        )
        scores = scorer.scores(images)
        guidance = guidance_of(pipeline, options)
        facts = {"block": dims(block), "guidance": guidance, "evaluations": evaluations}
        rows.append({**facts, "cache_bytes": cache, "seconds": round(seconds, 2), **scores})
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


def asked_labels(pipeline: ACDiTPipeline, labels: list[int | str] | None, samples: int) -> list[int | None]:
    """The class of every picture or clip that is asked for: so many of each label, or of the first ten.

    A model without classes draws so many.
    """
    classes = pipeline.transformer.config["num_classes"]
    listed: Any = labels or (classes and range(min(classes, MOST_CLASSES)))
    return [label for label in pipeline.label_ids(listed) for _ in range(samples)]


def draw(
    pipeline: ACDiTImagePipeline, labels: Sequence[int | None], options: RunOptions, **arguments: Any
) -> tuple[Any, int, int, float]:
    """Images for the labels, in batches; evaluations and cache bytes of an image; and the seconds for all.

    Image i has the seed `options.seed + i`, whatever the batch.
    """
    drawn, evaluations, cache = [], 0, 0
    started = time.perf_counter()
    for first in tqdm(
        range(0, len(labels), options.batch), unit="batch", desc="sampling", delay=3, leave=False
    ):
        part = labels[first : first + options.batch]
        seeds = range(options.seed + first, options.seed + first + len(part))
        made = pipeline(
            part,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            guidance_interval=options.guidance_interval,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **arguments,
        )
        drawn.append(made.images)
        evaluations, cache = made.evaluations, made.cache_bytes // len(part)
    seconds = time.perf_counter() - started
    if isinstance(drawn[0], torch.Tensor):
        return torch.cat(drawn), evaluations, cache, seconds
    return [image for images in drawn for image in images], evaluations, cache, seconds
