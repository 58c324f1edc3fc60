"""Write samples of a training run to files, with one function for each modality."""

from pathlib import Path

import torch

from ..generation.text_files import joined
from ..media.images import picture_grid, save_picture
from ..media.videos import contact_sheet
from ..pipelines.image import ACDiTImagePipeline
from ..pipelines.text import ACDiTTextPipeline
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.files import whole

SEED = 0
IMAGES = 4  # number of images per class
TEXTS = 4  # number of texts per file


def save_images(pipeline: ACDiTImagePipeline, classes: list[int], path: Path) -> None:
    """Write a grid of samples as a PNG, with one column per class; `path` has no suffix."""
    images = pipeline(classes * IMAGES, generator=torch.Generator().manual_seed(SEED)).images
    save_picture(picture_grid(images, len(classes)), path.with_suffix(".png"))


def save_clips(pipeline: ACDiTVideoPipeline, classes: list[int], path: Path) -> None:
    """Write a PNG with a row of frames for one clip of each class; `path` has no suffix."""
    frames = pipeline(classes, generator=torch.Generator().manual_seed(SEED)).frames
    save_picture(contact_sheet(frames), path.with_suffix(".png"))


def save_texts(pipeline: ACDiTTextPipeline, classes: list[int], path: Path) -> None:
    """Write a few texts to one file; `path` has no suffix, and `classes` is not used."""
    del classes
    texts = pipeline(num_samples_per_prompt=TEXTS, generator=torch.Generator().manual_seed(SEED)).texts
    with whole(path.with_suffix(".txt")) as temporary_path:
        temporary_path.write_text(joined(texts))
