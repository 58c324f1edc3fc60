"""Score a model of video against real clips of its kind, by features of the network that one names."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..data.config import DataConfig
from ..data.dataset import PixelDataset
from ..data.opening import open_pixels
from ..generation.batches import guidance_of
from ..metrics.distances import coverage_density, frechet
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.errors import UserError, require
from .clips import K
from .features.torchscript import torchscript_features
from .moving_digits import CLIPS, drawn_clips
from .options import EvaluateOptions
from .report import format_table


def compare_clips(pipeline: ACDiTVideoPipeline, options: EvaluateOptions) -> dict[str, Any]:
    """Scores of clips that are drawn with the classes of real ones, against these; and drift over time.

    Where --frames asks for more than a clip, the first block of every real one is continued, and each part
    of a clip's length is compared with real clips. Clips are held a batch at a time, their features alone
    are kept.

    Raises:
        UserError: for real clips that do not fit the model, or too few of them.
    """
    if options.data is None or options.features is None:
        raise UserError("to compare clips, name real ones by --data and a network of features by --features")
    span = pipeline.num_frames
    length = options.frames or span
    if length % span:
        raise UserError(f"--frames must be a multiple of {span}, a clip's, not {length}")
    if isinstance(options.steps, list) and length != span:
        raise UserError(
            f"--steps must be one number where clips of {span} frames are drawn and continued to {length}"
        )
    require("torchmetrics.image.fid", "eval")
    features = torchscript_features(Path(options.features), pipeline.device)
    data = _open_real(pipeline, options.data, options)
    count = min(CLIPS, len(data)) if options.samples is None else options.samples
    if not K < count <= len(data):
        raise UserError(
            f"--samples must be more than {K} and at most the {len(data)} clips of {options.data}, "
            f"not {count}"
        )
    places = [number * len(data) // count for number in range(count)]  # spread over all classes

    def read(numbers: list[int]) -> Tensor:
        return torch.stack([data.read(places[number])[0] for number in numbers])  # (n, C, F, H, W)

    labels = _labels(pipeline, data, places)
    parts = torch.arange(count).split(options.batch)
    bar = tqdm(parts, desc="reading clips", unit="batch", delay=3, leave=False)
    real = torch.cat([features(read(part.tolist())) for part in bar])
    found = torch.cat([features(clips) for clips in drawn_clips(pipeline, labels, options, count)])
    coverage, density = coverage_density(real, found, K)
    scores: dict[str, Any] = {
        "clips": count,
        "guidance": guidance_of(pipeline, options),
        "frechet_video_distance": frechet(found, real),
        "coverage": coverage,
        "density": density,
    }
    if length > span:
        first = pipeline.layout.block[0] * pipeline.layout.patch[0]
        rolling = {"window": options.window, "sinks": options.sinks or 0}
        more = {"given": lambda numbers: read(numbers)[:, :, :first], "num_frames": length, **rolling}
        continued = [
            torch.stack([features(part) for part in clips.split(span, dim=2)])
            for clips in drawn_clips(pipeline, labels, options, count, **more)
        ]  # each (parts, n, D)
        scores |= {
            **rolling,
            "context_noise": options.context_noise or 0.0,
            "drift_starts": list(range(0, length, span)),
            "drift": [frechet(part, real) for part in torch.cat(continued, dim=1)],
        }
    return scores


def comparison_table(scores: dict[str, Any]) -> str:
    """The scores in the width of a terminal."""
    rows = [
        ("clips", scores["clips"]),
        ("Fréchet video distance", scores["frechet_video_distance"]),
        ("coverage", scores["coverage"]),
        ("density", scores["density"]),
    ]
    drift = zip(scores.get("drift_starts", ()), scores.get("drift", ()), strict=True)
    rows += [(f"  continued, from frame {start}", distance) for start, distance in drift]
    return format_table([{"score": name, "value": value} for name, value in rows])


def _open_real(pipeline: ACDiTVideoPipeline, source: str, options: EvaluateOptions) -> PixelDataset:
    """Real clips of the model's length, size and colours."""
    height, width = (edge * pipeline.vae_scale_factor for edge in pipeline.layout.size[1:])
    if height != width:
        raise UserError(f"real clips are cropped to squares, and the model's frames are {height}x{width}")
    config = DataConfig(
        source=source,
        split=options.split or "validation",
        image_size=height,
        channels=3 if pipeline.pixel_channels == 3 else 1,
        frames=pipeline.num_frames,
        frame_stride=options.stride or 1,
        short_clips="skip",
        flip=False,
    )
    return open_pixels(config, seed=options.seed)


def _labels(pipeline: ACDiTVideoPipeline, data: PixelDataset, places: list[int]) -> Tensor | None:
    """The classes of real clips as the model counts them, (N,); None for a model that knows none."""
    if pipeline.transformer.config["num_classes"] is None:
        return None
    names = [data.label_names[label] for label in data.labels[places].tolist()]
    return torch.tensor(pipeline.label_ids(names))
