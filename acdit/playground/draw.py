"""The tabs Draw and Finish: pictures block by block, from a class or from the first blocks of a picture."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ..generation.batches import generators
from ..model.layout import Layout
from ..pipelines.classification import ACDiTImageClassificationPipeline
from ..pipelines.image import ACDiTImagePipeline
from .cards import Card
from .jobs import Job, Stopped, failure, stopped_with
from .pictures import data_url, data_urls
from .requests import Settings
from .shelf import Shelf
from .snippets import Machine, block_code, call_of, label_options, seeded

BEST = 3  # classes of a finished picture that are named


@dataclass(frozen=True)
class Start:
    """Picture that is finished.

    Attributes:
        picture: the picture, as the model sees it.
        keep: number of its first blocks that are kept.
        count: number of pictures that are made of it.
    """

    picture: Image.Image
    keep: int
    count: int


def draw(job: Job, shelf: Shelf, card: Card, settings: Settings) -> None:
    """Draw a picture of a class, and send the result of each solver step and of each block.

    Args:
        job: job that receives the events.
        shelf: the models.
        card: the model.
        settings: settings of the picture.
    """
    pipeline = shelf.opened(job, card, ACDiTImagePipeline)
    began, layout = time.perf_counter(), pipeline.layout.with_block(settings.block)

    def step_done(_: object, step: int, timestep: object, tensors: dict[str, torch.Tensor]) -> None:
        del timestep
        if job.stopped:
            pipeline._interrupt = True
            return
        steps = pipeline.num_timesteps // layout.num_blocks
        index, position = divmod(step, steps)
        picture = _block_picture(pipeline, layout, tensors["latents"], index)
        job.send("step", block=index, step=position, steps=steps, image=data_url(picture))

    texts = _texts(card, settings, None, shelf.machine)
    with stopped_with(texts):
        for piece in pipeline.stream(
            [settings.label], callback_on_step_end=step_done, **_arguments(settings)
        ):
            job.check()
            job.send(
                "block",
                block=piece.block,
                blocks=layout.num_blocks,
                image=data_url(piece.images[0]),
                evaluations=piece.evaluations,
                cache_bytes=piece.cache_bytes,
                seconds=time.perf_counter() - began,
            )
    job.post({"event": "done", "seconds": time.perf_counter() - began, **texts})


def finish(job: Job, shelf: Shelf, card: Card, settings: Settings, start: Start) -> None:
    """Draw the rest of a picture several times, and recognise the results if there is a classifier.

    Args:
        job: job that receives the events.
        shelf: the models.
        card: the model.
        settings: settings of the pictures; picture i has the seed plus i.
        start: the picture, and what is kept of it.
    """
    pipeline = shelf.opened(job, card, ACDiTImagePipeline)
    began, layout = time.perf_counter(), pipeline.layout.with_block(settings.block)
    kept = kept_rectangles(layout, start.keep, pipeline.vae_scale_factor)
    job.send("given", image=data_url(start.picture), kept=kept)

    def step_done(*_: object) -> None:
        pipeline._interrupt = job.stopped

    images: list[Image.Image] = []
    texts = _texts(card, settings, start, shelf.machine)
    with stopped_with(texts):
        for piece in pipeline.stream(
            [settings.label],
            num_images_per_prompt=start.count,
            image=start.picture,
            keep_blocks=start.keep,
            callback_on_step_end=step_done,
            callback_on_step_end_tensor_inputs=[],
            **_arguments(settings, start.count),
        ):
            job.check()
            images = piece.images
            job.send(
                "block",
                block=piece.block,
                blocks=layout.num_blocks,
                images=data_urls(images),
                evaluations=piece.evaluations,
                cache_bytes=piece.cache_bytes,
                seconds=time.perf_counter() - began,
            )
        note = _recognise(job, shelf, card, images)
    job.post({"event": "done", "seconds": time.perf_counter() - began, **texts, **note})


def _recognise(job: Job, shelf: Shelf, card: Card, images: list[Image.Image]) -> dict[str, str]:
    """Send what a classifier reads in pictures; if it fails, return a note for the last event instead."""
    classifier = shelf.classifier_of(card)
    if classifier is None:
        return {}
    try:
        recogniser = shelf.opened(job, classifier, ACDiTImageClassificationPipeline)
        predictions = recogniser(images, top_k=BEST).predictions
        job.send("recognised", model=classifier.name, results=predictions)
    except Stopped:
        raise
    except Exception as error:  # noqa: BLE001 - the pictures are finished, whatever fails here
        return {"note": f"{classifier.name} cannot recognise the pictures: {failure(error)}"}
    return {}


def kept_rectangles(layout: Layout, keep: int, scale: int) -> list[list[int]]:
    """Return [top, left, height, width] in pixels of the first blocks of a picture."""
    height, width = (tokens * patch * scale for tokens, patch in zip(layout.block, layout.patch, strict=True))
    columns = layout.block_counts[1]
    return [[index // columns * height, index % columns * width, height, width] for index in range(keep)]


def _arguments(settings: Settings, count: int = 1) -> dict[str, Any]:
    return {
        "block": settings.block,
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        "generator": generators(settings.seed, range(count)),
    }


def _block_picture(
    pipeline: ACDiTImagePipeline, layout: Layout, latents: torch.Tensor, index: int
) -> Image.Image:
    """Return one block of the first picture of latents (N, C, h, w)."""
    block = layout.to_blocks(latents[:1])[:, index : index + 1]
    return pipeline._decode(Layout(layout.block, layout.block, layout.patch).from_blocks(block), "pil")[0]


def _texts(card: Card, settings: Settings, start: Start | None, machine: Machine) -> dict[str, Any]:
    """Return the Python code and the command that make the same pictures, see `Machine.copied`."""
    count = 1 if start is None else start.count
    call = call_of(
        "pipe",
        {
            "class_labels": repr([settings.label]),
            "num_images_per_prompt": None if count == 1 else str(count),
            "image": None if start is None else "picture",
            "keep_blocks": None if start is None else str(start.keep),
            "block": block_code(settings.block),
            "num_inference_steps": str(settings.steps),
            "guidance_scale": repr(settings.guidance),
            "generator": seeded(settings.seed, count),
        },
        ".images",
    )
    if start is None:
        imports, opening = "import torch\n\nimport acdit\n\n", ""
        saving = 'images[0].save("drawn.png")\n'
    else:
        imports = "import torch\nfrom PIL import Image\n\nimport acdit\n\n"
        opening = 'picture = Image.open("picture.png")  # as the model sees it: save it from the page\n'
        saving = 'for index, image in enumerate(images):\n    image.save(f"finished-{index}.png")\n'
    python = f"{imports}{machine.loading(card)}{opening}images = {call}\n{saving}"
    options = {
        **label_options(card, settings.label),
        "samples": count,
        "prefix": None if start is None else "picture.png",
        "keep-blocks": None if start is None else start.keep,
        "block": settings.block,
        "steps": settings.steps,
        "guidance": settings.guidance,
        "seed": settings.seed,
        "out": "drawn.png" if start is None else "finished.png",
    }
    return machine.copied(card, python, options)
