"""Classes by a generator: the class given which the loss of a sample is lowest (arXiv 2303.16203)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from ..data.autoencoders import encode
from ..data.dataset import PixelDataset
from ..diffusion.class_losses import (
    ClassLosses,
    denoising_class_losses,
    number_of_classes,
    token_class_losses,
)
from ..diffusion.schedulers import PREDICTIONS
from ..diffusion.solver_checks import prediction_of
from ..metrics.classification import assigned_classes, class_ranks, confusion_matrix
from ..metrics.paired import mean_interval
from ..pipelines.pixel_pipeline import ACDiTPipeline
from ..pipelines.text import ACDiTTextPipeline
from ..utils.errors import UserError
from ..utils.randomness import generator
from ..utils.ranks import Ranks
from .class_tables import LEVEL, accuracy_scores, class_tables, shown_names
from .labelled_data import LabelledData, labelled_items
from .model_evaluation import ModelSettings, versions
from .report import Interval, Report, Score

CLASS_ACCURACY = "class_accuracy"
FURTHER_MARGINS = "mean margin of further samples of the same data"


class ClassAnswers(NamedTuple):
    """Answers of a generator for the N samples that could be read.

    Attributes:
        read: which of all samples could be read, 0 or 1.
        labels: class of each sample, (N,).
        positions: rank of this class by the losses, 0 = the lowest, (N,).
        assigned: class with the lowest loss, (N,).
        margins: difference of the losses of the best and the second class, (N,).
        errors: standard errors of the margins over the draws, see `ClassLosses.margins`, (N,).
        exact: whether the losses are exact.
    """

    read: Tensor
    labels: Tensor
    positions: Tensor
    assigned: Tensor
    margins: Tensor
    errors: Tensor
    exact: bool


def measure_classes(
    pipeline: ACDiTPipeline | ACDiTTextPipeline,
    data: PixelDataset,
    settings: ModelSettings,
    metrics: Sequence[str],
) -> Report:
    """Measure the metric `class_accuracy` of `MODEL_METRICS`; see `evaluate_model`.

    Raises:
        UserError: if the model or the data have no classes, or different ones.
    """
    del metrics  # there is only this one
    number_of_classes(pipeline.transformer)
    if isinstance(pipeline, ACDiTTextPipeline):
        return _text_report(pipeline, data, settings)
    return classification_report(pipeline, labelled_items(pipeline, data), settings)


def classification_report(pipeline: ACDiTPipeline, data: LabelledData, settings: ModelSettings) -> Report:
    """Report how well a generator classifies images or clips.

    Args:
        pipeline: pipeline of the model.
        data: samples with the classes of the model.
        settings: settings of the measurement.

    Raises:
        UserError: if the model has no classes, or does not predict what objectives of this package train.
    """
    classes = number_of_classes(pipeline.transformer)
    predicted = prediction_of(pipeline.scheduler)
    if predicted not in PREDICTIONS:
        raise UserError(f"denoising losses are defined for {', '.join(PREDICTIONS)}, not for {predicted}")
    data = data.spread(settings.count)

    def losses() -> Iterator[tuple[list[int], ClassLosses]]:
        description = f"losses of {classes} classes"
        for rows, pixels in data.batches(settings.sampling.batch, settings.ranks, description):
            indices = [data.samples.indices[row] for row in rows]
            yield (
                rows,
                denoising_class_losses(
                    pipeline.transformer,
                    _blocks(pipeline, pixels, indices, settings.sampling.seed),
                    pipeline.layout,
                    prediction=PREDICTIONS[predicted],
                    seed=settings.sampling.seed,
                    indices=indices,
                    draws=settings.draws,
                ),
            )

    answers = _answers(losses(), data.labels, settings.ranks)
    data.finish(answers.read, settings.ranks)
    return _report(answers, pipeline.class_names, settings, data.samples.describe(), data.notes)


def _text_report(pipeline: ACDiTTextPipeline, data: PixelDataset, settings: ModelSettings) -> Report:
    """Report how well a generator classifies sequences of tokens by their likelihoods."""
    classes, mask = number_of_classes(pipeline.transformer), pipeline.transformer.config["vocab_size"] - 1
    if len(data.labels) and not 0 <= int(data.labels.min()) <= int(data.labels.max()) < classes:
        raise UserError(f"labels of the data must be classes of the model, 0 to {classes - 1}")
    if data.size != pipeline.layout.size:
        raise UserError(f"the texts must have {pipeline.layout.num_tokens} tokens, not {data.size[0]}")
    count = settings.count or len(data)
    if count > len(data):
        raise UserError(f"there are {len(data):,} texts, not {count:,}: ask for fewer")
    indices = [number * len(data) // count for number in range(count)]
    batch, ranks = settings.sampling.batch, settings.ranks

    def losses() -> Iterator[tuple[list[int], ClassLosses]]:
        for first in range(ranks.rank * batch, len(indices), ranks.world_size * batch):
            own = indices[first : first + batch]
            tokens = torch.stack([data.prepared(index) for index in own])
            yield (
                list(range(first, first + len(own))),
                token_class_losses(
                    pipeline.transformer,
                    tokens.to(pipeline.device),
                    (tokens != mask).sum(dim=1),  # padding has the mask's id
                    pipeline.layout,
                    seed=settings.sampling.seed,
                    indices=own,
                    draws=settings.draws,
                    schedule=pipeline.scheduler.config["schedule"],
                ),
            )

    answers = _answers(losses(), data.labels[indices], ranks)
    samples = {"name": data.source or "the data", "count": len(indices)}
    return _report(answers, [None] * classes, settings, samples)


def _answers(
    losses: Iterator[tuple[list[int], ClassLosses]], labels: Tensor, processes: Ranks
) -> ClassAnswers:
    """Return the answers for samples with labels (N,), given the losses of this rank's rows."""
    table = torch.zeros(len(labels), 6, dtype=torch.float64)
    exact = torch.zeros(1)
    with processes.failing_together():
        for rows, part in losses:
            own = labels[rows]
            columns = (
                torch.ones(len(rows)),  # the row was read
                own,
                class_ranks(-part.means, own),
                assigned_classes(-part.means),
                *part.margins(),
            )
            table[rows] = torch.stack([column.double() for column in columns], dim=1)
            exact += part.exact
    processes.total(table)
    read = table[:, 0] > 0
    *classes, margins, errors = table[read, 1:].unbind(dim=1)
    labels, positions, assigned = (column.long() for column in classes)
    is_exact = bool(processes.total(exact))
    return ClassAnswers(read.long(), labels, positions, assigned, margins, errors, is_exact)


def _report(
    answers: ClassAnswers,
    names: Sequence[str | None],
    settings: ModelSettings,
    samples: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> Report:
    """Return the report of answers."""
    count = len(answers.labels)
    mean = mean_interval(answers.margins.tolist(), LEVEL)
    interval = None
    if mean.low is not None and mean.high is not None:
        interval = Interval(mean.low, mean.high, LEVEL, FURTHER_MARGINS)
    scores = [
        *accuracy_scores(answers.positions, len(names), CLASS_ACCURACY),
        Score("class_margin", mean.mean, better="higher", samples=count, interval=interval),
    ]
    drawn = {} if answers.exact else {"draws": settings.draws, "seed": settings.sampling.seed}
    if drawn and settings.draws > 1:
        scores.append(
            Score("class_margin_error", float(answers.errors.square().mean().sqrt()), samples=count)
        )
    return Report(
        tuple(scores),
        settings={
            "classes": shown_names(names),
            "losses": "exact" if answers.exact else "estimated",
            **drawn,
        },
        samples=samples,
        versions=versions(),
        notes=tuple(notes),
        tables=class_tables(confusion_matrix(answers.assigned, answers.labels, len(names)), names),
    )


def _blocks(pipeline: ACDiTPipeline, pixels: Tensor, indices: Sequence[int], seed: int) -> Tensor:
    """Return the clean blocks (N, T, B, C) of pixels; latents are drawn as in training, once a sample."""
    data = pipeline.to_data(pixels.to(pipeline.device))
    if pipeline.vae is not None:
        data, deviation = encode(pipeline.vae, data)
        noise = [
            torch.randn(data.shape[1:], generator=generator(seed, "generative classifier", each, "latent"))
            for each in indices
        ]
        data = data + deviation * torch.stack(noise).to(data.device)
    return pipeline.layout.to_blocks(data.to(cast(torch.dtype, pipeline.transformer.dtype)))
