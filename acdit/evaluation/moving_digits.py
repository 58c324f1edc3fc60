"""Scores of generated clips of moving digits, and of continued held-out clips."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.digits import LABEL_NAMES
from ..data.moving_digits import SCENES, MovingDigits, Scene, scene_of
from ..generation.batches import Sampling
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.errors import UserError, in_words, require
from ..utils.files import whole
from .comparison import Comparison, score_drawn, suitable_features
from .data_samples import DataSamples
from .evaluate import evaluate_samples
from .features.moving_frames import load_frame_classifier
from .features.table import open_extractor
from .generated_samples import GeneratedSamples, generated_clips
from .model_evaluation import ModelSettings, evaluate_model
from .real_sets import RealSets
from .report import Report, joined
from .rollouts import check_steps
from .samples import TensorSamples
from .training_data import describe_training_data, is_trained_on

CLIPS = 500
LEAST = 6  # least number of clips; coverage and density need as many
ROLLOUT = 64  # number of frames of a continued clip
PREFIX = 4  # number of given frames among them


def moving_digits_of(pipeline: ACDiTVideoPipeline) -> Scene | None:
    """Return the scene whose clips of moving digits a pipeline generates; None for other clips."""
    scene = scene_of((pipeline.pixel_channels, *pipeline.layout.size[1:]))
    if scene is None or pipeline.vae is not None:
        return None
    return scene if is_trained_on(pipeline, scene.name, LABEL_NAMES) else None


def moving_digit_sets(scene: Scene, frames: int, count: int) -> RealSets:
    """Return the real clips with which generated clips of moving digits are compared.

    Args:
        scene: scene of the clips.
        frames: number of frames of a clip.
        count: number of clips: the first held-out ones, and as many training clips beside them.
    """
    held_out = MovingDigits(frames, held_out=True, scene=scene)
    training = MovingDigits(frames, scene=scene)
    reference, real = (
        TensorSamples(_clips(data, count), data.labels[:count], LABEL_NAMES, f"{scene.name}, {part}")
        for data, part in ((held_out, "held out"), (training, "training part"))
    )
    return RealSets(reference, count, real, None, None, DataSamples(training, f"{scene.name}, training part"))


def evaluate_moving_digits(
    pipeline: ACDiTVideoPipeline,
    sampling: Sampling,
    comparison: Comparison,
    *,
    count: int | None = None,
    frames: int | None = None,
    window: int | None = None,
    sinks: int = 0,
    context_noise: float = 0.0,
) -> tuple[Report, GeneratedSamples, RealSets]:
    """Score clips generated with the labels of held-out ones, and continuations of held-out clips.

    The features `moving-frames` are those of frames, in which a classifier recognises the digit. Clips are
    continued without label and guidance, because the given frames determine the following ones.

    Args:
        pipeline: pipeline that generates clips.
        sampling: sampling settings.
        comparison: how clips are compared; by default on a small network that is fitted here.
        count: number of clips; None = 500, or all held-out ones if there are fewer.
        frames: number of frames of a continued clip; None = 64.
        window: attention window of continued clips, see `ACDiTVideoPipeline`.
        sinks: number of sinks of continued clips, see `ACDiTVideoPipeline`.
        context_noise: standard deviation of the context noise of all clips, see `ACDiTVideoPipeline`.

    Returns:
        The report, the generated clips, which the caller closes, and the real clips.

    Raises:
        UserError: if the pipeline was not trained on moving digits, or the prefix would end inside a block.
    """
    span, length = pipeline.num_frames, frames or ROLLOUT
    scene, clips = _checked(pipeline, count, length)
    check_steps(sampling, span, length)
    held_out = MovingDigits(max(length, span), held_out=True, scene=scene)
    sets = moving_digit_sets(scene, span, clips)
    reference = sets.reference
    features = comparison.features or [suitable_features(reference.shape, LABEL_NAMES)]
    extractor = open_extractor(
        features[0], reference.shape, torch.device(comparison.device), trust=comparison.trust
    )
    extractor(_clips(held_out, 1)[:, :, :span])  # raises errors before clips are generated
    sampled, samples = score_drawn(
        lambda labels: generated_clips(pipeline, labels, sampling, context_noise=context_noise),
        pipeline,
        sets,
        comparison,
        sampling,
        {"context_noise": context_noise},
    )
    settings = ModelSettings(
        replace(sampling, batch=comparison.batch),
        clips,
        frames=length,
        prefix=PREFIX,
        start=PREFIX,
        window=window,
        sinks=sinks,
        context_noise=context_noise,
        extractor=extractor,
        ranks=comparison.ranks,
    )
    with samples.closed_on_failure():
        in_frames = evaluate_samples(
            samples,
            reference,
            [load_frame_classifier(scene)],
            ("frechet_distance", "label_accuracy"),
            real=sets.real,
            seed=comparison.seed,
            batch=comparison.batch,
            ranks=comparison.ranks,
        )
        continued = evaluate_model(pipeline, held_out, ("continuation", "drift"), settings)
    return joined(sampled, in_frames, continued), samples, sets


def plot_rollouts(report: Report, path: Path) -> None:
    """Plot the series of continued clips over time, such as squared errors and drift."""
    figures: Any = require("matplotlib.figure", "examples")
    figure = figures.Figure(figsize=(12, 7), layout="constrained")
    labels = {
        "squared_error": "squared error of pixels",
        "centroid_error": "centroid error in pixels",
        "read": "fraction of digits recognised",
        "drift": "Fréchet video distance",
    }
    real: dict[str, float | None] = {"centroid_error": 0.0}
    if any(score.metric == "read_last" for score in report.scores):
        real["read"] = report.score("read_last").real
    rows = -(-len(report.series) // 2)
    for index, series in enumerate(report.series):
        axes = figure.add_subplot(rows, min(2, len(report.series)), index + 1)
        axes.plot(
            series.positions, series.values, "o-" if series.metric == "drift" else "-", label="continued"
        )
        level = real.get(series.metric)
        if level is not None:
            axes.axhline(level, color="grey", linestyle=":", label="real clips")
        axes.set(xlabel=series.axis, ylabel=labels.get(series.metric, series.metric), ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend()
    with whole(path) as temporary_path:
        figure.savefig(temporary_path, format="png", dpi=110)


def _checked(pipeline: ACDiTVideoPipeline, count: int | None, length: int) -> tuple[Scene, int]:
    """Return the scene of a pipeline and the number of clips.

    Raises:
        UserError: if the pipeline is not of moving digits, or the numbers do not fit it.
    """
    scene = moving_digits_of(pipeline)
    if scene is None:
        known = in_words([f"{each.name} ({each.side}x{each.side})" for each in SCENES.values()], "and")
        raise UserError(
            f"without --data, only models of {known} in grey pixels with the classes 0 to 9 can be scored, "
            f"but {describe_training_data(pipeline)}: for another model, give real clips of its "
            "data with --data"
        )
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
    available = len(MovingDigits(1, held_out=True, scene=scene))
    clips = min(CLIPS, available) if count is None else count
    if not LEAST <= clips <= available:
        raise UserError(
            f"--count must be at least {LEAST} and at most {available}, the held-out clips, not {count}"
        )
    return scene, clips


def _clips(data: MovingDigits, count: int) -> Tensor:
    return torch.stack([data.decode(index) for index in range(count)])  # (N, 1, F, H, W)
