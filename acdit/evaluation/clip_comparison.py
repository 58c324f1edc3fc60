"""Scores of a video model against real clips of its kind, on features of a given network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.config import DataConfig
from ..data.dataset import PixelDataset
from ..data.image_decoding import Unreadable
from ..data.opening import open_samples
from ..data.splits import held_out_split
from ..generation.batches import Sampling, draw_clips
from ..metrics.distances import frechet
from ..metrics.neighbours import coverage_density
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.errors import UserError, require
from ..utils.names import NAMELESS, same_classes
from ..utils.progress_bar import ProgressBar
from .clip_scores import K
from .features.extractor import FeatureFunction
from .features.torchscript import torchscript_features
from .moving_digits import CLIPS
from .report import format_table


def compare_clips(
    pipeline: ACDiTVideoPipeline,
    source: str,
    features: Path,
    sampling: Sampling,
    *,
    samples: int | None = None,
    split: str | None = None,
    stride: int = 1,
    frames: int | None = None,
    window: int | None = None,
    sinks: int = 0,
    context_noise: float = 0.0,
) -> dict[str, Any]:
    """Generate clips with the classes of real ones and score them against these, with the drift over time.

    Only one batch of clips is in memory at a time; only the features of all clips are kept.

    Args:
        pipeline: pipeline that generates clips.
        source: source of the real clips, a folder or a Hugging Face data set.
        features: path of a TorchScript file, see `torchscript_features`.
        sampling: sampling settings.
        samples: number of clips; None = 500, or all if there are fewer.
        split: split of the source; None = `validation`, if the source has splits.
        stride: number of frames of a real video from one frame of a clip to the next, at its mean rate.
        frames: number of frames of continued clips. If it exceeds the length of a clip, the first block of
            every real clip is continued, and each part with the length of a clip is compared with real clips.
        window: attention window of the continued clips, see `ACDiTVideoPipeline`.
        sinks: number of sinks of the continued clips, see `ACDiTVideoPipeline`.
        context_noise: standard deviation of the context noise, see `ACDiTVideoPipeline`.

    Raises:
        UserError: if the real clips do not fit the model, or there are too few of them.
    """
    span = pipeline.num_frames
    length = frames or span
    if length % span:
        raise UserError(f"--frames must be a multiple of {span}, the model's clip length, not {length}")
    if isinstance(sampling.steps, Sequence) and length != span:
        raise UserError(
            f"--steps must be one number, not one per block, to continue clips of {span} frames to {length}"
        )
    require("torchmetrics.image.fid", "eval")
    extractor = torchscript_features(features, pipeline.device)
    data = _open_real(pipeline, source, split, stride)
    count = min(CLIPS, len(data)) if samples is None else samples
    if not K < count <= len(data):
        raise UserError(
            f"--samples must be more than {K} and at most the {len(data)} clips of {source}, not {count}"
        )
    chosen = [number * len(data) // count for number in range(count)]  # spread over all classes
    indices, real, unreadable = _real_features(data, chosen, extractor, sampling.batch)
    count, unreadable = len(indices), data.skipped | unreadable
    if count <= K:
        name, reason = next(iter(unreadable.items()))
        raise UserError(
            f"{source} has {count} readable clips, but more than {K} are needed; {name}: {reason}"
        )

    def read(numbers: list[int]) -> Tensor:
        return torch.stack([data.decode(indices[number]) for number in numbers])  # (n, C, F, H, W)

    labels = _labels(pipeline, data, indices)
    generated_clips = draw_clips(pipeline, labels, count, sampling, context_noise=context_noise)
    generated = torch.cat([extractor(clips) for clips in generated_clips])
    coverage, density = coverage_density(real, generated, K)
    scores: dict[str, Any] = {
        "clips": count,
        "left_out": len(unreadable),
        "left_out_files": unreadable,
        "guidance": sampling.scale(pipeline),
        "frechet_video_distance": frechet(generated, real),
        "coverage": coverage,
        "density": density,
    }
    if length > span:
        first = pipeline.layout.block[0] * pipeline.layout.patch[0]
        continued_clips = draw_clips(
            pipeline,
            labels,
            count,
            sampling,
            given=lambda numbers: read(numbers)[:, :, :first],
            num_frames=length,
            window=window,
            sinks=sinks,
            context_noise=context_noise,
        )
        continued = [
            torch.stack([extractor(part) for part in clips.split(span, dim=2)]) for clips in continued_clips
        ]  # each (parts, n, D)
        scores |= {
            "window": window,
            "sinks": sinks,
            "context_noise": context_noise,
            "drift_starts": list(range(0, length, span)),
            "drift": [frechet(part, real) for part in torch.cat(continued, dim=1)],
        }
    return scores


def _real_features(
    data: PixelDataset, indices: list[int], extractor: FeatureFunction, batch: int
) -> tuple[list[int], Tensor, dict[str, str]]:
    """Return the indices of the clips that can be read, their features, and the others with the reasons."""
    readable, features, unreadable = [], [], {}
    parts = [indices[first : first + batch] for first in range(0, len(indices), batch)]
    for part in ProgressBar(parts, desc="reading clips", unit="batch", delay=3, leave=False):
        clips = []
        for index in part:
            try:
                clips.append(data.decode(index))
                readable.append(index)
            except Unreadable as fault:  # a clip in its place would be counted twice
                unreadable[data.name(index)] = str(fault)
        if clips:
            features.append(extractor(torch.stack(clips)))
    return readable, torch.cat(features) if features else torch.empty(0), unreadable


def comparison_table(scores: dict[str, Any]) -> str:
    """Format the scores as a table that fits the width of a terminal."""
    rows = [
        ("clips", scores["clips"]),
        ("  unreadable files left out", scores["left_out"]),
        ("Fréchet video distance", scores["frechet_video_distance"]),
        ("coverage", scores["coverage"]),
        ("density", scores["density"]),
    ]
    drift = zip(scores.get("drift_starts", ()), scores.get("drift", ()), strict=True)
    rows += [(f"  continued, from frame {start}", distance) for start, distance in drift]
    return format_table([{"score": name, "value": value} for name, value in rows])


def _open_real(pipeline: ACDiTVideoPipeline, source: str, split: str | None, stride: int) -> PixelDataset:
    """Open real clips with the length, size and colours of the model's clips."""
    height, width = (side * pipeline.vae_scale_factor for side in pipeline.layout.size[1:])
    if height != width:
        raise UserError(
            f"real clips are cropped to squares: the model's frames must be square, not {height}x{width}"
        )
    config = DataConfig(
        source=source,
        split=split or held_out_split(source, texts=False),
        image_size=height,
        channels=3 if pipeline.pixel_channels == 3 else 1,
        frames=pipeline.num_frames,
        frame_stride=stride,
        short_clips="skip",
        flip=False,
    )
    return open_samples(config, seed=0)  # no mirroring; clips from the middle of videos


def _labels(pipeline: ACDiTVideoPipeline, data: PixelDataset, indices: list[int]) -> Tensor | None:
    """Return the model's class ids of the real clips, (N,), or None for a model without classes."""
    if pipeline.transformer.config["num_classes"] is None:
        return None
    model_names = tuple(pipeline.label_names.values())
    if model_names == NAMELESS or (len(model_names) == 1 and same_classes(model_names, data.label_names)):
        return torch.zeros(len(indices), dtype=torch.long)
    if data.label_names == NAMELESS:
        raise UserError(
            f"--data has no classes, but the model has {pipeline.transformer.config['num_classes']}: put the "
            "clips into one sub-folder per class"
        )
    names = [data.label_names[label] for label in data.labels[indices].tolist()]
    return torch.tensor(pipeline.label_ids(names))
