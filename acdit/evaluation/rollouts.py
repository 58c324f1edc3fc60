"""Metrics of continued clips: their errors frame by frame, and their drift away from real clips."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.dataset import PixelDataset
from ..data.moving_digits import MovingDigits
from ..generation.batches import Sampling
from ..metrics.statistics import frechet_distance
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.errors import UserError
from .continuation import Continuations, continuation_report
from .data_samples import DataSamples
from .extraction import extract
from .features.moving_frames import load_frame_classifier
from .features.pixels import Pixels
from .generated_samples import generated_clips
from .model_evaluation import ModelSettings, versions
from .report import Report, Series
from .samples import Samples


class ClipParts:
    """The frames of clips from `start` on, as samples; see `Samples`.

    Args:
        clips: long clips.
        start: first frame.
        frames: number of frames.
    """

    label_names: tuple[str, ...] = ()
    labels: Tensor | None = None

    def __init__(self, clips: Samples, start: int, frames: int) -> None:
        self._clips, self._span = clips, slice(start, start + frames)
        self.name, self.unreadable = f"{clips.name}, from frame {start}", clips.unreadable
        self.shape = (clips.shape[0], frames, *clips.shape[2:])

    def __len__(self) -> int:
        return len(self._clips)

    def batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Yield the batches of the clips, cut; see `Samples`."""
        for rows, part in self._clips.batches(size, rank, ranks):
            yield rows, part[:, :, self._span]

    def describe(self) -> dict[str, Any]:
        """Return the description of the clips."""
        return self._clips.describe()


def measure_rollouts(
    pipeline: ACDiTVideoPipeline, data: PixelDataset, settings: ModelSettings, metrics: Sequence[str]
) -> Report:
    """Continue the first frames of clips, and report the metrics `continuation` and `drift`.

    A part of a continued clip is compared with the same frames of the real clips, or with their first frames
    if these clips are shorter.

    Raises:
        UserError: if the length of the clips does not fit the model, or `continuation` is measured on other
            data than moving digits.
    """
    count, span = settings.count or len(data), pipeline.num_frames
    length = settings.frames or span
    check_steps(settings.sampling, span, length)
    block = pipeline.layout.block[0] * pipeline.layout.patch[0]
    prefix = settings.prefix or block
    real = DataSamples(data, "real clips").taken(range(count))

    def first_frames(rows: list[int]) -> Tensor:
        return torch.stack([data.decode(row)[:, :prefix] for row in rows])  # (n, C, prefix, H, W)

    generated = generated_clips(
        pipeline,
        settings.labels or (None,) * count,
        settings.sampling,
        given=first_frames,
        num_frames=length,
        window=settings.window,
        sinks=settings.sinks,
        context_noise=settings.context_noise,
    )
    with generated as clips:
        clips.draw(settings.sampling.batch, settings.ranks)
        scores, series, facts = (), [], {}
        if "continuation" in metrics:
            if not isinstance(data, MovingDigits):
                raise UserError("the metric continuation needs moving-digits, whose motion is known")
            pixels = extract(clips, Pixels(), settings.sampling.batch, settings.ranks).values
            assert pixels is not None
            continued = pixels.view(count, *clips.shape).transpose(1, 2)  # (N, F, C, H, W)
            classifier = load_frame_classifier(data.scene)
            measured = continuation_report(
                Continuations(data, range(count), continued, prefix), classifier.predict, classifier.mean
            )
            scores, series, facts = measured.scores, list(measured.series), dict(measured.settings)
        features = {}
        if "drift" in metrics:
            if settings.extractor is None:
                raise UserError("the metric drift needs an extractor of features")
            features = {settings.extractor.info.name: settings.extractor.info.to_json()}
            series.append(_drift(clips, real, length, span, settings))
        return Report(
            scores,
            tuple(series),
            features,
            settings={
                **facts,
                "frames": length,
                "prefix": prefix,
                "window": settings.window,
                "sinks": settings.sinks,
                "context_noise": settings.context_noise,
            },
            samples=clips.describe(),
            versions=versions(),
        )


def check_steps(sampling: Sampling, frames: int, length: int) -> None:
    """Raise UserError if steps are given per block, but clips of `frames` frames get another length."""
    if isinstance(sampling.steps, Sequence) and length != frames:
        raise UserError(
            f"--steps must be one number, not one per block, to continue clips of {frames} frames to {length}"
        )


def _drift(clips: Samples, real: Samples, length: int, span: int, settings: ModelSettings) -> Series:
    """Return the Fréchet distances of the parts of long clips to real clips."""
    assert settings.extractor is not None
    extractor, batch, ranks = settings.extractor, settings.sampling.batch, settings.ranks
    starts, distances = range(settings.start, length - span + 1, span), []
    for start in starts:
        first = start if real.shape[1] >= start + span else 0
        compared = [
            extract(part, extractor, batch, ranks).statistics
            for part in (
                ClipParts(clips, start, span),
                ClipParts(real, first, span),
            )
        ]
        distances.append(frechet_distance(*compared))
    return Series("drift", "frame", tuple(starts), tuple(distances), extractor.info.name)
