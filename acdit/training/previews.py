"""Write samples of a training run to files, with one function for each modality.

The pipelines are given by title; if there are several, their samples stand side by side.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from ..generation.text_files import joined
from ..media.images import picture_grid, save_picture, titled
from ..media.videos import contact_sheet
from ..pipelines.generators import seeded_in_order
from ..pipelines.image import ACDiTImagePipeline
from ..pipelines.text import ACDiTTextPipeline
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.files import whole

SEED = 0
IMAGES = 4  # number of images per class
TEXTS = 4  # number of texts per file


def save_images(pipelines: Mapping[str, ACDiTImagePipeline], classes: list[int], path: Path) -> None:
    """Write a grid of samples as a PNG, with one column per class; `path` has no suffix."""
    labels = [*(classes or [None])] * IMAGES
    grids = {
        title: picture_grid(
            pipeline(labels, generator=_generators(len(labels))).images, len(labels) // IMAGES
        )
        for title, pipeline in pipelines.items()
    }
    save_picture(titled(grids), path.with_suffix(".png"))


def save_clips(pipelines: Mapping[str, ACDiTVideoPipeline], classes: list[int], path: Path) -> None:
    """Write a PNG with a row of frames for one clip of each class; `path` has no suffix."""
    sheets = {
        title: contact_sheet(pipeline(classes or None, generator=_generators(len(classes) or 1)).frames)
        for title, pipeline in pipelines.items()
    }
    save_picture(titled(sheets), path.with_suffix(".png"))


def save_texts(pipelines: Mapping[str, ACDiTTextPipeline], classes: list[int], path: Path) -> None:
    """Write a few texts to one file; `path` has no suffix, and `classes` is not used."""
    del classes
    parts = []
    for title, pipeline in pipelines.items():
        texts = pipeline(num_samples_per_prompt=TEXTS, generator=_generators(TEXTS)).texts
        parts.append(f"{title}:\n\n{joined(texts)}" if len(pipelines) > 1 else joined(texts))
    with whole(path.with_suffix(".txt")) as temporary_path:
        temporary_path.write_bytes("\n\n".join(parts).encode())  # the same in every locale


def _generators(count: int) -> list[torch.Generator]:
    return seeded_in_order(torch.Generator().manual_seed(SEED), count)
