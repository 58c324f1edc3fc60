"""Scores of generated digits, beside the scores of real digits."""

from collections.abc import Sequence

from ..generation.batches import Sampling
from ..model.layout import dims
from ..pipelines.image import ACDiTImagePipeline
from ..utils.errors import UserError
from .comparison import Comparison, score_drawn
from .generated_samples import GeneratedSamples, generated_images
from .real_sets import RealSets, geometry_of, open_real_sets
from .report import Report
from .training_data import built_in_data, describe_training_data

CLASSIFIER = "digit-classifier"
METRICS = ("frechet_distance", "coverage_density", "label_accuracy")


def digit_sets(pipeline: ACDiTImagePipeline, count: int | None = None) -> RealSets:
    """Return the real digits that the samples of a pipeline are compared with.

    Args:
        pipeline: pipeline that generates digits.
        count: number of samples; None = the number of held-out digits.

    Raises:
        UserError: if the pipeline was not trained on digits, or there are fewer held-out ones.
    """
    source = built_in_data(pipeline)
    if source is None:
        raise UserError(
            "only models of mnist (grey pixels, 32x32) or digits (8x8) with the classes 0 to 9 can be "
            f"scored, but {describe_training_data(pipeline)}"
        )
    sets = open_real_sets(source, geometry_of(pipeline), count=count)
    if count is not None and len(sets.reference) < count:
        raise UserError(
            f"--samples must be at most {len(sets.reference)}, the number of held-out digits, not {count}"
        )
    return sets


def score_digits(
    pipeline: ACDiTImagePipeline,
    sets: RealSets,
    sampling: Sampling,
    metrics: Sequence[str] = METRICS,
    *,
    block: Sequence[int] | None = None,
    window: int | None = None,
    context_noise: float = 0.0,
) -> Report:
    """Draw digits with the labels of the held-out ones, and score them on the features of a classifier.

    Args:
        pipeline: pipeline that generates digits.
        sets: real digits, see `digit_sets`.
        sampling: sampling settings.
        metrics: names of metrics.
        block: tokens of a block, (h, w); None = the pipeline's default.
        window: number of previous blocks visible to each block; None = all.
        context_noise: standard deviation of the noise on finished blocks that later blocks attend to.
    """

    def draw(labels: Sequence[int | None]) -> GeneratedSamples:
        return generated_images(
            pipeline, labels, sampling, block=block, window=window, context_noise=context_noise
        )

    report, samples = score_drawn(
        draw,
        pipeline,
        sets,
        Comparison([CLASSIFIER], metrics, batch=sampling.batch, device=pipeline.device),
        sampling,
        {"block": dims(pipeline.layout.block if block is None else block)},
    )
    samples.close()
    return report
