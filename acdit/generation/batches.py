"""Generate samples in batches; sample i has the requested seed plus i, regardless of the batch size."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..pipelines.callbacks import StepFunction
from ..pipelines.image import ACDiTImagePipeline, ACDiTImagePipelineOutput
from ..pipelines.pixel_pipeline import ACDiTPipeline
from ..pipelines.text import ACDiTTextPipeline
from ..pipelines.video import ACDiTVideoPipeline
from ..pipelines.video_outputs import ACDiTVideoPipelineOutput
from ..utils.ranks import ALONE, Ranks
from .step_progress import with_progress

MOST_CLASSES = 10  # number of classes that are sampled when none is named
T = TypeVar("T")


@dataclass(frozen=True)
class Sampling:
    """Settings of sampling.

    Attributes:
        seed: seed of the first sample.
        batch: number of samples generated at once.
        steps: sampling steps per block, one number or one for each block; None = the pipeline's default.
        guidance: scale of classifier-free guidance; None = the pipeline's default.
        guidance_interval: lowest and highest sigma at which guidance applies; None = all.
    """

    seed: int = 0
    batch: int = 64
    steps: int | Sequence[int] | None = None
    guidance: float | None = None
    guidance_interval: tuple[float, float] | None = None

    def scale(self, pipeline: ACDiTPipeline) -> float:
        """Return the guidance scale that a pipeline uses with these settings."""
        return pipeline.config["guidance_scale"] if self.guidance is None else self.guidance

    def arguments(self, rows: Sequence[int], on_step: StepFunction | None = None) -> dict[str, Any]:
        """Return the arguments of a pipeline call that generates the samples with the given indices.

        `on_step` is its `callback_on_step_end`.
        """
        return {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "guidance_interval": self.guidance_interval,
            "generator": generators(self.seed, rows),
            "callback_on_step_end": on_step,
        }


def generators(seed: int, rows: Sequence[int]) -> list[torch.Generator]:
    """Return a random generator for each sample, seeded with `seed` plus the index of the sample."""
    return [torch.Generator().manual_seed(seed + row) for row in rows]


def in_batches(
    draw: Callable[[list[int], StepFunction], T], count: int, batch: int, description: str = "sampling"
) -> Iterator[T]:
    """Generate samples 0..count - 1 in batches, with a progress bar that advances with every solver step.

    Args:
        draw: function that generates the samples with the given indices; it passes its second argument to
            the pipeline as `callback_on_step_end`.
        count: total number of samples.
        batch: number of samples generated at once.
        description: label of the progress bar.

    Yields:
        The result of `draw` for each batch.
    """
    firsts = range(0, count, batch)
    for first, on_step in with_progress(firsts, len(firsts), description):
        yield draw(list(range(first, min(first + batch, count))), on_step)


def requested_labels(
    pipeline: ACDiTPipeline, labels: Sequence[int | str | None] | None, samples: int
) -> list[int | None]:
    """Return the class of every sample: `samples` of each label, or of the first ten classes.

    A label that is None stands for samples without a class.

    For a model without classes, return `samples` times None.
    """
    classes = pipeline.transformer.config["num_classes"]
    listed: Any = labels or (classes and range(min(classes, MOST_CLASSES)))
    return [label for label in pipeline.label_ids(listed) for _ in range(samples)]


def requested_count(pipeline: ACDiTPipeline, labels: Sequence[int | str | None] | None, samples: int) -> int:
    """Return the number of labels that `requested_labels` returns, without building the list."""
    return samples * len(labels or requested_labels(pipeline, None, 1))


@dataclass(frozen=True)
class DrawnImages:
    """Generated images, and the cost of generating them.

    Attributes:
        images: images (N, C, H, W) in [0, 1].
        evaluations: number of network evaluations per image.
        cache_bytes: size of the key-value cache per image.
        seconds: time for all images.
    """

    images: Tensor
    evaluations: int
    cache_bytes: int
    seconds: float


def image_batch(
    pipeline: ACDiTImagePipeline,
    labels: Sequence[int | None],
    rows: Sequence[int],
    sampling: Sampling,
    *,
    output_type: str,
    block: Sequence[int] | None = None,
    image: Any = None,
    keep_blocks: int = 0,
    guidance_rising: bool = False,
    window: int | None = None,
    context_noise: float = 0.0,
    on_step: StepFunction | None = None,
) -> ACDiTImagePipelineOutput:
    """Generate the images with the given indices in one call of the pipeline.

    See `draw_images`, and for `window` and `context_noise` `ACDiTImagePipeline`, whose `callback_on_step_end`
    is `on_step`.
    """
    return pipeline(
        [labels[row] for row in rows],
        block=block,
        image=image,
        keep_blocks=keep_blocks,
        guidance_rising=guidance_rising,
        output_type=output_type,
        window=window,
        context_noise=context_noise,
        **sampling.arguments(rows, on_step),
    )


def draw_images(
    pipeline: ACDiTImagePipeline,
    labels: Sequence[int | None],
    sampling: Sampling,
    *,
    block: Sequence[int] | None = None,
    image: Any = None,
    keep_blocks: int = 0,
    guidance_rising: bool = False,
) -> DrawnImages:
    """Generate an image for each label, in batches.

    Args:
        pipeline: pipeline that generates the images.
        labels: class of each image, or None.
        sampling: settings of sampling.
        block: tokens of a block, (h, w); None = the pipeline's default.
        image: image to continue, see `ACDiTImagePipeline`.
        keep_blocks: number of blocks of `image` that are kept.
        guidance_rising: whether guidance rises over the blocks from 1 to its scale.
    """

    def draw(rows: list[int], on_step: StepFunction) -> tuple[Tensor, int, int]:
        output = image_batch(
            pipeline,
            labels,
            rows,
            sampling,
            output_type="pt",
            block=block,
            image=image,
            keep_blocks=keep_blocks,
            guidance_rising=guidance_rising,
            on_step=on_step,
        )
        return output.images.cpu(), output.evaluations, output.cache_bytes // len(rows)

    started = time.perf_counter()
    parts = list(in_batches(draw, len(labels), sampling.batch))
    _, evaluations, cache_bytes = parts[-1]
    seconds = time.perf_counter() - started
    return DrawnImages(torch.cat([images for images, _, _ in parts]), evaluations, cache_bytes, seconds)


def clip_batch(
    pipeline: ACDiTVideoPipeline,
    labels: Sequence[int | None] | None,
    rows: Sequence[int],
    sampling: Sampling,
    *,
    given: Callable[[list[int]], Tensor] | None = None,
    num_frames: int | None = None,
    window: int | None = None,
    sinks: int = 0,
    context_noise: float = 0.0,
    on_step: StepFunction | None = None,
) -> ACDiTVideoPipelineOutput:
    """Generate the clips with the given indices in one call of the pipeline.

    The frames of the output are of shape (n, F, C, H, W) in [0, 1].

    Args:
        pipeline: pipeline that generates the clips.
        labels: class of each of these clips, or None; None = no classes.
        rows: indices of the clips, which decide their seeds.
        sampling: settings of sampling.
        given: function that returns the first frames (n, C, K, H, W) in [-1, 1] of the clips with the given
            indices; None = no frames are given.
        num_frames: number of frames of a clip; None = the pipeline's default.
        window: attention window, see `ACDiTVideoPipeline`.
        sinks: number of first blocks that stay visible beyond the window.
        context_noise: standard deviation of the noise on finished blocks that later blocks attend to.
        on_step: callback of the pipeline's call (`callback_on_step_end`); None = none.
    """
    prefix = None if given is None else (given(list(rows)).transpose(1, 2) + 1) / 2  # (n, K, C, H, W)
    return pipeline(
        None if labels is None else list(labels),
        num_videos_per_prompt=1 if labels is not None else len(rows),
        num_frames=num_frames,
        prefix=prefix,
        window=window,
        sinks=sinks,
        context_noise=context_noise,
        output_type="pt",
        **sampling.arguments(rows, on_step),
    )


def draw_texts(
    pipeline: ACDiTTextPipeline,
    count: int,
    sampling: Sampling,
    *,
    block: int,
    temperature: float | None = None,
    ranks: Ranks = ALONE,
) -> list[Tensor]:
    """Generate texts without a prompt, as token ids (L,) each.

    Args:
        pipeline: pipeline that generates the texts.
        count: number of texts.
        sampling: settings of sampling.
        block: tokens of a block.
        temperature: sampling temperature; None = the scheduler's.
        ranks: processes that share the work; each returns all texts.
    """
    own = range(ranks.rank, count, ranks.world_size)  # texts that this rank generates

    def draw(positions: list[int], on_step: StepFunction) -> list[Tensor]:
        rows = [own[position] for position in positions]
        return pipeline(
            num_samples_per_prompt=len(rows),
            num_inference_steps=sampling.steps,
            block=block,
            temperature=temperature,
            generator=generators(sampling.seed, rows),
            output_type="tokens",
            callback_on_step_end=on_step,
        ).texts

    with ranks.failing_together():
        texts = [text for part in in_batches(draw, len(own), sampling.batch, "writing") for text in part]
    parts = ranks.gathered(texts)
    return [parts[row % ranks.world_size][row // ranks.world_size] for row in range(count)]
