"""Measurements of the study of understanding: accuracies on held-out digits."""

from typing import Any

import torch
from torch import Tensor

from ..data.config import DataConfig
from ..data.digits import digit_images
from ..data.opening import open_samples
from ..evaluation.model_evaluation import ModelSettings, evaluate_model
from ..generation.batches import Sampling
from ..metrics.classification import top_accuracy
from ..pipelines.classification import ACDiTImageClassificationPipeline
from ..pipelines.image import ACDiTImagePipeline
from ..pipelines.loading import load_pipeline
from ..utils.ranks import launched
from .run_store import StoredRun
from .understanding_report import ALL, GENERATIVE, PROBES, probe_name
from .understanding_runs import Budget


def measure_classifier(
    budget: Budget, arm: str, labels: int, seed: int, run: StoredRun
) -> list[dict[str, Any]]:
    """Return the accuracy of a classifier on the held-out digits."""
    (accuracy,) = head_accuracies(load_classifier(run), *digit_images(budget.recipe, held_out=True))
    return [{"arm": arm, "labels": labels, "layer": -1, "seed": seed, **accuracy}]


def measure_probes(
    budget: Budget, labels: int, timestep: float | None, seed: int, run: StoredRun
) -> list[dict[str, Any]]:
    """Return the accuracies of the probes of all layers on the held-out digits."""
    pipeline = load_classifier(run)
    poolings = pipeline.classifier.config["pooling"]
    accuracies = head_accuracies(pipeline, *digit_images(budget.recipe, held_out=True))
    return [
        {
            "arm": probe_name(PROBES[pooling], timestep),
            "labels": labels,
            "layer": layer,
            "seed": seed,
            **accuracy,
        }
        for layer, pooling, accuracy in zip(pipeline.classifier.layers, poolings, accuracies, strict=True)
    ]


def measure_losses(budget: Budget, seed: int, run: StoredRun) -> list[dict[str, Any]]:
    """Return the accuracy of a class-conditional generator that classifies by its denoising losses."""
    pipeline = load_pipeline(run.pipeline, kind=ACDiTImagePipeline).to(launched().device)
    data = open_samples(DataConfig(source=budget.recipe, channels=1), seed=seed, held_out=True)
    settings = ModelSettings(Sampling(seed=seed), budget.count, budget.draws)
    score = evaluate_model(pipeline, data, ("class_accuracy",), settings).score("class_accuracy")
    error = (score.value * (1 - score.value) / (budget.count or len(data))) ** 0.5
    row = {"arm": GENERATIVE, "labels": ALL, "layer": -1, "seed": seed}
    return [{**row, "accuracy": score.value, "error": error}]


def load_classifier(run: StoredRun) -> ACDiTImageClassificationPipeline:
    """Load the classifier of a finished run."""
    return load_pipeline(run.pipeline, kind=ACDiTImageClassificationPipeline).to(launched().device)


@torch.no_grad()
def head_accuracies(
    pipeline: ACDiTImageClassificationPipeline, images: Tensor, labels: Tensor, batch: int = 250
) -> list[dict[str, float]]:
    """Return the accuracy of every head of a classifier, with its standard error.

    Args:
        pipeline: the classifier.
        images: images (N, C, H, W) in [-1, 1].
        labels: classes (N,).
        batch: images per forward pass.
    """
    logits = torch.cat([pipeline.logits(part).cpu() for part in images.split(batch)])  # (N, heads, classes)
    means = [top_accuracy(logits[:, head], labels) for head in range(logits.shape[1])]
    return [{"accuracy": mean.value, "error": mean.error} for mean in means]
