"""Score a model of video against real clips of its kind, by features of the network that one names."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from .clip_scoring import CLIPS, drawn_clips
from .data.opening import open_pixels
from .errors import UserError, require
from .evaluation.clip_features import torchscript_features
from .evaluation.clips import K
from .evaluation.digits import format_table
from .evaluation.distances import coverage_density, frechet
from .options import EvaluateOptions
from .pipelines.video import ACDiTVideoPipeline
from .sample_sets import guidance_of
from .training.config import DataConfig


def compare_clips(pipeline: ACDiTVideoPipeline, options: EvaluateOptions) -> dict[str, Any]:
    """Scores of clips that are drawn with the classes of real ones, against these; and drift over time.

    Where --frames asks for more than a clip, the first block of every real one is continued, and each part
    of a clip's length is compared with real clips.

    Raises:
        UserError: for real clips that do not fit the model, or too few of them.
    """
    if options.data is None or options.features is None:
        raise UserError("to compare clips, name real ones by --data and a network of features by --features")
    span, layout, scale = pipeline.num_frames, pipeline.layout, pipeline.vae_scale_factor
    height, width = (edge * scale for edge in layout.size[1:])
    if height != width:
        raise UserError(f"real clips are cropped to squares, and the model's frames are {height}x{width}")
    given, length = layout.block[0] * layout.patch[0], options.frames or span
    if length % span and options.frames is not None:
        raise UserError(f"--frames must be a multiple of {span}, a clip's, not {length}")
    require("torchmetrics.image.fid", "eval")
    features = torchscript_features(Path(options.features), pipeline.device)
    data = open_pixels(
        DataConfig(
            source=options.data,
            split=options.split or "validation",
            image_size=height,
            channels=3 if pipeline.pixel_channels == 3 else 1,
            frames=span,
            frame_stride=options.stride or 1,
            short_clips="skip",
            flip=False,
        ),
        seed=options.seed,
    )
    count = min(CLIPS, len(data)) if options.samples is None else options.samples
    if not K < count <= len(data):
        raise UserError(
            f"--samples must be more than {K} and at most the {len(data)} clips of {options.data}, "
            f"not {count}"
        )
    rows = [row * len(data) // count for row in range(count)]
    labels = None
    if pipeline.transformer.config["num_classes"] is not None:
        names = [data.label_names[label] for label in data.labels[rows].tolist()]
        labels = torch.tensor(pipeline.label_ids(names))
    bar = tqdm(rows, desc="reading clips", unit="clip", delay=3, leave=False)
    real = torch.stack([data.read(row)[0] for row in bar])  # (N, C, F, H, W)
    of_real = features(real)  # what cannot be done is said before clips are drawn
    began = time.perf_counter()
    clips = drawn_clips(pipeline, labels, options, count)
    seconds = time.perf_counter() - began
    found = features(clips)
    coverage, density = coverage_density(of_real, found, K)
    scores: dict[str, Any] = {
        "clips": count,
        "guidance": guidance_of(pipeline, options),
        "seconds": round(seconds, 2),
        "frechet_video_distance": frechet(found, of_real),
        "coverage": coverage,
        "density": density,
    }
    if length > span:
        rolling = {"window": options.window, "sinks": options.sinks or 0}
        more = {"prefix": real[:, :, :given], "num_frames": length, **rolling}
        long = drawn_clips(pipeline, labels, options, count, **more)
        starts = list(range(0, length, span))
        parts: list[Tensor] = [long[:, :, start : start + span] for start in starts]
        scores |= {"drift_starts": starts, "drift": [frechet(features(part), of_real) for part in parts]}
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
