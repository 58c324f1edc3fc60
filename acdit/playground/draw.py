"""The tab Draw: a picture of a class, block by block, with the solver steps of each block."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from PIL import Image

from ..generation.batches import generators
from ..model.layout import Layout
from ..pipelines.image import ACDiTImagePipeline, ImagePiece
from .jobs import Job
from .pictures import data_url
from .requests import Settings
from .shelf import Card, Shelf


def draw(job: Job, shelf: Shelf, card: Card, settings: Settings) -> None:
    """Draw a picture, and send its steps and blocks.

    Args:
        job: job that receives the events.
        shelf: the models.
        card: the model.
        settings: settings of the picture.
    """
    pipeline = opened(job, shelf, card, ACDiTImagePipeline)
    started, layout = time.perf_counter(), pipeline.layout.with_block(settings.block)

    def step_done(_: object, step: int, timestep: object, tensors: dict[str, torch.Tensor]) -> None:
        del timestep
        if job.stopped:
            pipeline._interrupt = True
            return
        steps = pipeline.num_timesteps // layout.num_blocks
        index, position = divmod(step, steps)
        picture = block_picture(pipeline, layout, tensors["latents"], index)
        job.send("step", block=index, step=position, steps=steps, image=data_url(picture))

    for piece in _stream(
        pipeline,
        step_done,
        class_labels=[settings.label],
        block=settings.block,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        generator=generators(settings.seed, [0]),
    ):
        job.send(
            "block",
            block=piece.block,
            blocks=layout.num_blocks,
            image=data_url(piece.images[0]),
            evaluations=piece.evaluations,
            cache_bytes=piece.cache_bytes,
            seconds=time.perf_counter() - started,
        )
    job.send("done", seconds=time.perf_counter() - started, python=None, command=None)


def opened(job: Job, shelf: Shelf, card: Card, kind: type[Any]) -> Any:
    """Return the pipeline of a model; a job that has to load it says so first."""
    if not shelf.is_loaded(card.name):
        job.send("loading", model=card.name)
    pipeline = shelf.pipeline(card.name, kind)
    job.check()
    return pipeline


def block_picture(
    pipeline: ACDiTImagePipeline, layout: Layout, latents: torch.Tensor, index: int
) -> Image.Image:
    """Return one block of the first picture of latents (N, C, h, w)."""
    block = layout.to_blocks(latents[:1])[:, index : index + 1]
    return pipeline._decode(Layout(layout.block, layout.block, layout.patch).from_blocks(block), "pil")[0]


def _stream(
    pipeline: ACDiTImagePipeline, callback: Callable[..., None], **arguments: Any
) -> Iterator[ImagePiece]:
    labels = arguments.pop("class_labels")
    request = pipeline._image_request(labels, 1, None, 0, None, 0.0, **arguments)
    blocks, evaluations = pipeline._empty_blocks(request), 0
    with torch.no_grad():
        for finished in pipeline._finished(request, callback, ("latents",)):
            blocks[:, finished.index] = finished.sample.float()
            evaluations += finished.evaluations
            images = pipeline._decode(request.layout.from_blocks(blocks.clone()), "pil")
            yield ImagePiece(images, finished.index, evaluations, finished.cache_bytes)
