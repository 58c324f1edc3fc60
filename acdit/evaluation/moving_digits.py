"""Scores of generated clips of moving digits, and of continued held-out clips."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.digits import LABEL_NAMES
from ..data.moving_digits import FRAME_SIDE, NAME, MovingDigits
from ..generation.batches import Sampling, draw_clips
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.errors import UserError, require
from ..utils.files import whole
from .clip_scores import K, drift, score_clips
from .continuation import Continuations, score_continuations
from .features.clip_network import load_clip_network
from .features.digit_classifier import load_digit_classifier
from .features.extractor import FeatureFunction
from .features.torchscript import torchscript_features
from .report import format_table
from .training_data import describe_training_data, is_trained_on

CLIPS = 500
ROLLOUT = 64  # number of frames of a continued clip
PREFIX = 4  # number of given frames among them
CLASSIFIER_FRAMES = 20_000  # number of frames that the frame classifier is trained on


def evaluate_clips(
    pipeline: ACDiTVideoPipeline,
    sampling: Sampling,
    *,
    samples: int | None = None,
    frames: int | None = None,
    window: int | None = None,
    sinks: int = 0,
    context_noise: float = 0.0,
    features: Path | None = None,
) -> dict[str, Any]:
    """Score clips generated with the labels of held-out ones, and continuations of held-out clips.

    Clips are continued without label and guidance, because the given frames determine the following ones.

    Args:
        pipeline: pipeline that generates clips.
        sampling: sampling settings.
        samples: number of clips; None = 500.
        frames: number of frames of a continued clip; None = 64.
        window: attention window of continued clips, see `ACDiTVideoPipeline`.
        sinks: number of sinks of continued clips, see `ACDiTVideoPipeline`.
        context_noise: standard deviation of the context noise of all clips, see `ACDiTVideoPipeline`.
        features: path of a TorchScript file, see `torchscript_features`; None = a small network fitted here.

    Raises:
        UserError: if the pipeline was not trained on moving digits, or the prefix would end inside a block.
    """
    span = pipeline.num_frames
    shape = (pipeline.pixel_channels, *pipeline.layout.size)
    if (
        shape != (1, span, FRAME_SIDE, FRAME_SIDE)
        or pipeline.vae is not None
        or not is_trained_on(pipeline, NAME, LABEL_NAMES)
    ):
        raise UserError(
            "without --data, only models of moving-digits (grey pixels, 32x32) with the classes 0 to 9 can "
            f"be scored, but {describe_training_data(pipeline)}: for another model, give real clips of its "
            "data with --data, and a feature network with --features"
        )
    count, length = samples or CLIPS, frames or ROLLOUT
    size = pipeline.layout.block[0] * pipeline.layout.patch[0]
    if PREFIX % size:
        raise UserError(
            f"clips are continued from {PREFIX} frames, which are no multiple of {size}, a block's frames"
        )
    if length % size or length <= PREFIX:
        raise UserError(
            f"--frames must be a multiple of {size}, the frames of a block, and more than {PREFIX} "
            f"given ones, not {length}"
        )
    held_out, training = MovingDigits(max(length, span), held_out=True), MovingDigits(span)
    if not K < count <= len(held_out):
        raise UserError(
            f"--samples must be more than {K} and at most {len(held_out)}, the held-out clips, not {count}"
        )
    if isinstance(sampling.steps, Sequence) and length != span:
        raise UserError(
            f"--steps must be one number, not one per block, to continue clips of {span} frames to {length}"
        )
    require("torchmetrics.image.fid", "eval")
    extractor: FeatureFunction = (
        load_clip_network(span).features
        if features is None
        else torchscript_features(features, pipeline.device)
    )
    labels = held_out.labels[:count]
    real = _clips(held_out, count)  # (N, 1, F, H, W)
    extractor(real[:1, :, :span])  # raises errors before clips are generated
    first_frames, frame_labels = _first_frames(training)
    classifier = load_digit_classifier(first_frames, frame_labels)
    started = time.perf_counter()
    generated = torch.cat(list(draw_clips(pipeline, labels, count, sampling, context_noise=context_noise)))
    seconds = time.perf_counter() - started
    rollouts = torch.cat(
        list(
            draw_clips(
                pipeline,
                None,
                count,
                sampling,
                given=lambda rows: real[rows, :, :PREFIX],
                num_frames=length,
                window=window,
                sinks=sinks,
                context_noise=context_noise,
            )
        )
    )
    continued = Continuations(held_out, range(count), rollouts.transpose(1, 2), PREFIX)
    starts = range(PREFIX, length - span + 1, span)
    return {
        "guidance": sampling.scale(pipeline),
        "seconds": round(seconds, 2),
        "sampled": score_clips(
            generated,
            labels,
            train=_clips(training, count),
            held_out=real[:, :, :span],
            features=extractor,
            classifier=classifier,
        ),
        "continued": {
            "window": window,
            "sinks": sinks,
            "context_noise": context_noise,
            **score_continuations(continued, classifier.predict, first_frames.mean((0, 1))),
            "drift_starts": list(starts),
            "drift": drift(rollouts, real, extractor, span, starts),
        },
    }


def clip_table(scores: dict[str, Any]) -> str:
    """Format the most important scores as a table that fits the width of a terminal."""
    sampled, continued = scores["sampled"], scores["continued"]
    rows = [
        ("sampled clips", sampled["clips"]),
        ("label accuracy", sampled["label_accuracy"]),
        ("  of real clips", sampled["label_accuracy_real"]),
        ("coverage", sampled["coverage"]),
        ("Fréchet video distance", sampled["frechet_video_distance"]),
        ("  of real clips", sampled["frechet_video_distance_real"]),
        ("continued clips that bounce", continued["bouncing"]),
        ("squared error, relative to best baseline", continued["error_ratio"]),
        ("centroid error in pixels", continued["centroid_error"]),
        ("digit recognised in the last frame", continued["by_frame"]["read"][-1]),
        ("  in the last real frame", continued["read_real"]),
    ]
    return format_table([{"score": name, "value": value} for name, value in rows])


def plot_rollouts(scores: dict[str, Any], path: Path) -> None:
    """Plot squared errors, centroid errors, recognised digits and drift over time."""
    figures: Any = require("matplotlib.figure", "examples")
    figure = figures.Figure(figsize=(12, 7), layout="constrained")
    by_frame, continued = scores["continued"]["by_frame"], scores["continued"]
    frames = range(PREFIX, PREFIX + len(by_frame["read"]))
    panels = (
        ("squared_error", "squared error of pixels", None),
        ("centroid_error", "centroid error in pixels", 0.0),
        ("read", "fraction of digits recognised", continued["read_real"]),
    )
    for index, (name, label, real) in enumerate(panels):
        axes = figure.add_subplot(2, 2, index + 1)
        axes.plot(frames, by_frame[name], label="continued")
        if real is not None:
            axes.axhline(real, color="grey", linestyle=":", label="real clips")
        axes.set(xlabel="frame", ylabel=label, ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    axes = figure.add_subplot(2, 2, 4)
    axes.plot(continued["drift_starts"], continued["drift"], "o-")
    axes.set(xlabel="first frame of a part", ylabel="Fréchet video distance", ylim=(0, None))
    axes.grid(alpha=0.3)
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=110)


def _clips(data: MovingDigits, count: int) -> Tensor:
    return torch.stack([data.decode(index) for index in range(count)])


def _first_frames(training: MovingDigits) -> tuple[Tensor, Tensor]:
    """Return first frames (N, 1, H, W) of training clips, each at its own position, and their labels."""
    single = MovingDigits(1)
    rows = range(0, len(training), len(training) // CLASSIFIER_FRAMES)
    return torch.stack([single.decode(index)[:, 0] for index in rows]), training.labels[list(rows)]
