"""Scores of a model itself, which samples alone do not give: MODEL_METRICS by name, and their report."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch

from .. import __version__
from ..data.dataset import LabelledDataset
from ..diffusion.orders import RANDOM, Order
from ..diffusion.text_likelihood import Estimate
from ..generation.batches import Sampling
from ..pipelines.block_pipeline import BlockPipeline
from ..utils.errors import UserError, in_words
from ..utils.ranks import ALONE, Ranks
from ..utils.references import load_object
from ..utils.settings import nearest
from .features.extractor import FeatureExtractor
from .report import Report


@dataclass(frozen=True)
class ModelSettings:
    """Settings of the measurement of a model; each metric reads those that it needs.

    Attributes:
        sampling: settings of sampling, with the seed of all draws and the number of items per call.
        count: number of items of the data, the first ones, or of classes, at even steps; None = all.
        draws: number of estimates of the likelihood of a text, where it is not exact, or of the loss of a
            sample given each class.
        estimate: method of estimation of likelihoods, see `text_nelbo`.
        order: order in which the tokens of a block of text are revealed, see `text_bounds`.
        block: number of tokens of a block of text; None = the pipeline's default.
        frames: number of frames of continued clips; None = the clip length of the pipeline.
        prefix: number of given frames of continued clips; None = those of a block.
        start: first frame of the first part of continued clips that is compared with real clips.
        window: attention window of continued clips, see `ACDiTVideoPipeline`.
        sinks: number of sinks of continued clips, see `ACDiTVideoPipeline`.
        context_noise: standard deviation of the context noise, see `ACDiTVideoPipeline`.
        labels: class of each continued clip; None = no classes.
        extractor: extractor of features of clips, for the drift.
        ranks: processes that share the work.
    """

    sampling: Sampling = field(default_factory=Sampling)
    count: int | None = None
    draws: int = 4
    estimate: Estimate = "times"
    order: Order = RANDOM
    block: int | None = None
    frames: int | None = None
    prefix: int | None = None
    start: int = 0
    window: int | None = None
    sinks: int = 0
    context_noise: float = 0.0
    labels: tuple[int | None, ...] | None = None
    extractor: FeatureExtractor | None = None
    ranks: Ranks = ALONE


@dataclass(frozen=True)
class ModelMetric:
    """Entry of the table of metrics of models.

    Attributes:
        measure: import string of a function of a pipeline, data and settings that returns a report.
        modalities: modalities of the models.
    """

    measure: str
    modalities: tuple[Literal["image", "video", "text"], ...]


Measure = Callable[[Any, Any, ModelSettings, Sequence[str]], Report]

MODEL_METRICS: dict[str, ModelMetric] = {
    # perplexity and bits per byte of unseen texts
    "likelihood": ModelMetric("acdit.evaluation.texts:measure_texts", ("text",)),
    # spread of the loss of a block, by range of times
    "spread": ModelMetric("acdit.evaluation.texts:measure_texts", ("text",)),
    # errors of continued clips of moving digits
    "continuation": ModelMetric("acdit.evaluation.rollouts:measure_rollouts", ("video",)),
    # Fréchet distance of the parts of long clips to real clips, over time
    "drift": ModelMetric("acdit.evaluation.rollouts:measure_rollouts", ("video",)),
    # fraction of samples whose loss is lowest given their class
    "class_accuracy": ModelMetric(
        "acdit.evaluation.generative_classifier:measure_classes", ("image", "video", "text")
    ),
}


def evaluate_model(
    pipeline: BlockPipeline,
    data: LabelledDataset,
    metrics: Sequence[str],
    settings: ModelSettings | None = None,
) -> Report:
    """Measure metrics of a model on data.

    Args:
        pipeline: pipeline of the model.
        data: unseen data of the model's modality.
        metrics: names of metrics, see `MODEL_METRICS`.
        settings: settings of the measurement; None = the defaults.

    Returns:
        A report with the scores of the metrics.

    Raises:
        UserError: if a metric is unknown or not for the model, or the data do not fit.
    """
    if not metrics:
        raise UserError(f"no metric is named; there are {', '.join(MODEL_METRICS)}")
    modality = ("text", "image", "video")[pipeline.layout.axes - 1]
    for name in metrics:
        if name not in MODEL_METRICS:
            close = nearest(name, MODEL_METRICS)[0]
            raise UserError(
                f"unknown metric {name!r} of models; did you mean {close}? There are "
                f"{', '.join(MODEL_METRICS)}"
            )
        known = MODEL_METRICS[name].modalities
        if modality not in known:
            raise UserError(f"the metric {name} is for models of {in_words(known, 'or')}, not {modality}")
    measures = {MODEL_METRICS[name].measure: name for name in metrics}
    if len(measures) > 1:
        raise UserError(f"the metrics {' and '.join(measures.values())} are measured apart: name one of them")
    measure = cast(Measure, load_object(MODEL_METRICS[metrics[0]].measure))
    return measure(pipeline, data, settings or ModelSettings(), metrics)


def versions() -> dict[str, str]:
    """Return the versions of the programs on which scores depend."""
    return {"acdit": __version__, "torch": torch.__version__, "python": platform.python_version()}
