"""Samples that a pipeline draws in batches, kept on disk, so that they are never in memory as a whole."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..generation.batches import Sampling, clip_batch, image_batch
from ..generation.step_progress import with_progress
from ..pipelines.callbacks import StepFunction
from ..pipelines.image import ACDiTImagePipeline
from ..pipelines.pixel_pipeline import ACDiTPipeline
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.ranks import ALONE, Ranks
from ..utils.resources import require_disk


class DrawnBatch(NamedTuple):
    """Samples of one call of a pipeline, and their cost.

    Attributes:
        samples: samples (n, *shape) in [-1, 1], on the CPU.
        evaluations: number of network evaluations per sample.
        cache_bytes: size of the key-value cache per sample.
    """

    samples: Tensor
    evaluations: int
    cache_bytes: int


Draw = Callable[[Sequence[int], StepFunction | None], DrawnBatch]


class GeneratedSamples:
    """Samples that are drawn once, and kept in a temporary folder; sample i has the seed of the first plus i.

    Samples are drawn by `draw`, or when they are first read. Every feature extractor reads them anew. Only
    one batch is in memory at a time. The object is a context manager that closes itself.

    Args:
        draw: function that draws the samples with the given indices, and passes its second argument to the
            pipeline as `callback_on_step_end`.
        shape: shape of a sample.
        count: number of samples.
        labels: class that is requested for each sample, (N,); None for no classes.
        label_names: names of the classes.
        settings: settings of sampling that describe the set, as values of JSON.

    Attributes:
        evaluations: number of network evaluations per sample; 0 before the first batch.
        cache_bytes: size of the key-value cache per sample.
        seconds: time that this process has spent on sampling.
    """

    name = "generated samples"

    def __init__(
        self,
        draw: Draw,
        shape: Sequence[int],
        count: int,
        labels: Tensor | None,
        label_names: Sequence[str],
        settings: dict[str, Any],
    ) -> None:
        self._draw_batch, self._count, self._settings = draw, count, settings
        self._folder = tempfile.TemporaryDirectory(prefix="acdit-samples-")
        self.shape, self.labels, self.label_names = tuple(shape), labels, tuple(label_names)
        self.unreadable: dict[str, str] = {}
        self.evaluations, self.cache_bytes, self.seconds = 0, 0, 0.0

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> "GeneratedSamples":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder; samples can no longer be read."""
        self._folder.cleanup()

    @contextmanager
    def closed_on_failure(self) -> Iterator[None]:
        """Close the samples if an exception leaves the context, which may keep them alive."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def draw(self, size: int, ranks: Ranks = ALONE) -> None:
        """Draw this rank's batches of `size` samples, with a progress bar on the first rank.

        Raises:
            UserError: on all ranks, if the samples do not fit on the disk, or the pipeline cannot draw them.
        """
        with ranks.failing_together():
            self._check_disk()
            firsts = range(ranks.rank * size, len(self), ranks.world_size * size)
            for first, on_step in with_progress(firsts, len(firsts), disable=not ranks.main):
                self._kept(range(first, min(first + size, len(self))), on_step)

    def batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Yield the batches rank, rank + ranks, .. of `size` samples; see `Samples`."""
        for first in range(rank * size, len(self), ranks * size):
            rows = range(first, min(first + size, len(self)))
            yield rows, self._kept(rows)

    def describe(self) -> dict[str, Any]:
        """Return name and number of the samples, and the settings of sampling."""
        return {"name": self.name, "count": len(self), **self._settings}

    def _kept(self, rows: range, on_step: StepFunction | None = None) -> Tensor:
        """Return the samples with the given indices, after drawing them if they are not in the folder."""
        path = Path(self._folder.name) / f"{rows.start}-{rows.stop}.safetensors"
        if path.exists():
            return load_file(path)["samples"]
        started = time.perf_counter()
        drawn = self._draw_batch(rows, on_step)
        self.seconds += time.perf_counter() - started
        self.evaluations, self.cache_bytes = drawn.evaluations, drawn.cache_bytes
        save_file({"samples": drawn.samples.contiguous()}, path)
        return drawn.samples

    def _check_disk(self) -> None:
        """Raise UserError if the samples do not fit on the disk of temporary files."""
        require_disk(
            4 * len(self) * math.prod(self.shape),
            Path(self._folder.name),
            f"{len(self):,} samples",
            "lower --count, let TMPDIR name a folder on a larger disk, or score finished samples",
        )


def generated_images(
    pipeline: ACDiTImagePipeline,
    labels: Sequence[int | None],
    sampling: Sampling,
    *,
    block: Sequence[int] | None = None,
    guidance_rising: bool = False,
    window: int | None = None,
    context_noise: float = 0.0,
) -> GeneratedSamples:
    """Return an image for each label as samples, see `draw_images`.

    Args:
        pipeline: pipeline that generates the images.
        labels: class of each image, or None.
        sampling: settings of sampling; its `batch` does not count, but that of `Samples.batches`.
        block: tokens of a block, (h, w); None = the pipeline's default.
        guidance_rising: whether guidance rises over the blocks.
        window: number of previous blocks visible to each block; None = all.
        context_noise: standard deviation of the noise on finished blocks that later blocks attend to.
    """

    def draw(rows: Sequence[int], on_step: StepFunction | None) -> DrawnBatch:
        output = image_batch(
            pipeline,
            labels,
            rows,
            sampling,
            output_type="pt",
            block=block,
            guidance_rising=guidance_rising,
            window=window,
            context_noise=context_noise,
            on_step=on_step,
        )
        return DrawnBatch(
            2 * output.images.cpu().float() - 1, output.evaluations, output.cache_bytes // len(rows)
        )

    return _generated(pipeline, draw, pipeline.layout.size, labels, sampling)


def generated_clips(
    pipeline: ACDiTVideoPipeline,
    labels: Sequence[int | None],
    sampling: Sampling,
    *,
    given: Callable[[list[int]], Tensor] | None = None,
    num_frames: int | None = None,
    window: int | None = None,
    sinks: int = 0,
    context_noise: float = 0.0,
) -> GeneratedSamples:
    """Return a clip for each label as samples; see `clip_batch` for the other arguments.

    Args:
        pipeline: pipeline that generates the clips.
        labels: class of each clip, or None.
        sampling: settings of sampling; its `batch` does not count, but that of `Samples.batches`.
        given: function that returns the first frames of the clips with the given indices; None = none.
        num_frames: number of frames of a clip; None = the pipeline's default.
        window: attention window.
        sinks: number of first blocks that stay visible beyond the window.
        context_noise: standard deviation of the noise on finished blocks.
    """

    def draw(rows: Sequence[int], on_step: StepFunction | None) -> DrawnBatch:
        output = clip_batch(
            pipeline,
            [labels[row] for row in rows],
            rows,
            sampling,
            given=given,
            num_frames=num_frames,
            window=window,
            sinks=sinks,
            context_noise=context_noise,
            on_step=on_step,
        )
        clips = 2 * output.frames.transpose(1, 2).cpu().float() - 1
        return DrawnBatch(clips, output.evaluations, output.cache_bytes // len(rows))

    size = (num_frames or pipeline.num_frames, *pipeline.layout.size[1:])
    return _generated(pipeline, draw, size, labels, sampling)


def _generated(
    pipeline: ACDiTPipeline,
    draw: Draw,
    size: Sequence[int],
    labels: Sequence[int | None],
    sampling: Sampling,
) -> GeneratedSamples:
    """Return the samples that a function draws, of a size in tokens of the data."""
    *frames, height, width = size
    sides = (side * pipeline.vae_scale_factor for side in (height, width))
    ids = [label for label in labels if label is not None]
    return GeneratedSamples(
        draw,
        (pipeline.pixel_channels, *frames, *sides),
        len(labels),
        torch.tensor(ids) if labels and len(ids) == len(labels) else None,
        _names(pipeline),
        {"seed": sampling.seed, "guidance": sampling.scale(pipeline), "steps": sampling.steps},
    )


def _names(pipeline: ACDiTPipeline) -> tuple[str, ...]:
    """Return the names of the classes, "" for one without a name; empty if none has a name on record."""
    return tuple(name or "" for name in pipeline.class_names) if pipeline.label_names else ()
