"""Samples in batches, each with a seed of its own."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm

from ..pipelines.base import ACDiTPipeline
from ..pipelines.image import ACDiTImagePipeline
from .options import RunOptions

MOST_CLASSES = 10  # that are drawn when none is named


def guidance_of(pipeline: ACDiTPipeline, options: RunOptions) -> float:
    """The guidance that was asked for, or else the model's own."""
    return pipeline.config["guidance_scale"] if options.guidance is None else options.guidance


def asked_labels(pipeline: ACDiTPipeline, labels: list[int | str] | None, samples: int) -> list[int | None]:
    """The class of every picture or clip that is asked for: so many of each label, or of the first ten.

    A model without classes draws so many.
    """
    classes = pipeline.transformer.config["num_classes"]
    listed: Any = labels or (classes and range(min(classes, MOST_CLASSES)))
    return [label for label in pipeline.label_ids(listed) for _ in range(samples)]


def draw(
    pipeline: ACDiTImagePipeline, labels: Sequence[int | None], options: RunOptions, **arguments: Any
) -> tuple[Any, int, int, float]:
    """Images for the labels, in batches; evaluations and cache bytes of an image; and the seconds for all.

    Image i has the seed `options.seed + i`, whatever the batch.
    """
    drawn, evaluations, cache = [], 0, 0
    started = time.perf_counter()
    for first in tqdm(
        range(0, len(labels), options.batch), unit="batch", desc="sampling", delay=3, leave=False
    ):
        part = labels[first : first + options.batch]
        seeds = range(options.seed + first, options.seed + first + len(part))
        made = pipeline(
            part,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            guidance_interval=options.guidance_interval,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            **arguments,
        )
        drawn.append(made.images)
        evaluations, cache = made.evaluations, made.cache_bytes // len(part)
    seconds = time.perf_counter() - started
    if isinstance(drawn[0], torch.Tensor):
        return torch.cat(drawn), evaluations, cache, seconds
    return [image for images in drawn for image in images], evaluations, cache, seconds
