"""Scores of a video model against real clips of its kind, and the drift of continued clips."""

from dataclasses import replace

import torch

from ..data.dataset import SelectedItems
from ..generation.batches import Sampling
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.errors import UserError
from .comparison import Comparison, classes_like, score_drawn, suitable_features
from .data_samples import DataSamples
from .features.table import open_extractor
from .generated_samples import GeneratedSamples, generated_clips
from .model_evaluation import ModelSettings, evaluate_model
from .real_sets import RealSets
from .report import Report, joined
from .rollouts import check_steps


def compare_clips(
    pipeline: ACDiTVideoPipeline,
    sets: RealSets,
    sampling: Sampling,
    comparison: Comparison,
    *,
    frames: int | None = None,
    window: int | None = None,
    sinks: int = 0,
    context_noise: float = 0.0,
) -> tuple[Report, GeneratedSamples]:
    """Generate clips with the classes of real ones and score them against these, with the drift over time.

    Only one batch of clips is in memory at a time; only the features of all clips are kept.

    Args:
        pipeline: pipeline that generates clips.
        sets: the real clips.
        sampling: sampling settings.
        comparison: how clips are compared.
        frames: number of frames of continued clips. If it exceeds the length of a clip, the first block of
            every real clip is continued, and each part with the length of a clip is compared with real clips.
        window: attention window of the continued clips, see `ACDiTVideoPipeline`.
        sinks: number of sinks of the continued clips, see `ACDiTVideoPipeline`.
        context_noise: standard deviation of the context noise, see `ACDiTVideoPipeline`.

    Returns:
        The report, and the generated clips.

    Raises:
        UserError: if the real clips do not fit the model, or there are too few of them.
    """
    span = pipeline.num_frames
    length = frames or span
    if length % span:
        raise UserError(f"--frames must be a multiple of {span}, the model's clip length, not {length}")
    if length == span and (window is not None or sinks):
        raise UserError(
            f"--window and --sinks are for continued clips, of more frames than the {span} of the model: add "
            f"--frames, such as {4 * span}, or leave them out"
        )
    check_steps(sampling, span, length)
    reference = None if length == span else _continued(sets)
    report, samples = score_drawn(
        lambda labels: generated_clips(pipeline, labels, sampling, context_noise=context_noise),
        pipeline,
        sets,
        comparison,
        sampling,
        {"context_noise": context_noise},
    )
    if reference is None:
        return report, samples
    with samples.closed_on_failure():
        names = comparison.features or [suitable_features(reference.shape, reference.label_names)]
        settings = ModelSettings(
            replace(sampling, batch=comparison.batch),
            len(reference),
            frames=length,
            window=window,
            sinks=sinks,
            context_noise=context_noise,
            labels=tuple(classes_like(pipeline, reference, len(reference))[0]),
            extractor=open_extractor(
                names[0], reference.shape, torch.device(comparison.device), trust=comparison.trust
            ),
            ranks=comparison.ranks,
        )
        clips = SelectedItems(reference.data, reference.indices)
        drift = evaluate_model(pipeline, clips, ("drift",), settings)
    return joined(report, drift), samples


def _continued(sets: RealSets) -> DataSamples:
    """Return the real clips whose first blocks are continued, at most as many as are drawn."""
    reference = sets.reference
    if not isinstance(reference, DataSamples):
        raise UserError(f"--frames continues the clips of a folder or a data set, not of {reference.name}")
    return reference.spread(min(len(reference), sets.count))
