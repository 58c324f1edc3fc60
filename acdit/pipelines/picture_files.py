"""Recognise the classes of picture files, in batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ..data.folders import Scan, scan_folder
from ..data.image_decoding import decode_image
from ..data.splits import is_picture
from ..media.pictures import MAX_PIXELS, Unreadable
from ..utils.errors import UserError
from .classification import ACDiTImageClassificationPipeline, Prediction


def find_pictures(paths: Sequence[str]) -> Scan:
    """Return the files that are named, and those of the folders that are named, at every depth and sorted.

    Documents in folders, such as .txt files, are left out, and so is what is no file, with the reasons.

    Raises:
        UserError: if a path does not exist, or a folder holds no pictures.
    """
    found = Scan([], {})
    for path in map(Path, paths):
        try:
            is_folder, exists = path.is_dir(), path.exists()
        except (OSError, ValueError):  # no file can have such a name
            is_folder = exists = False
        if not exists:
            raise UserError(f"{path} does not exist: name pictures, or folders of pictures")
        inside = scan_folder(path) if is_folder else Scan([path], {})
        pictures = [file for file in inside.files if not is_folder or is_picture(file)]
        if not pictures:
            raise UserError(f"{path} holds no pictures")
        found.files.extend(pictures)
        found.left_out.update(inside.left_out)
    return found


def classify_files(
    pipeline: ACDiTImageClassificationPipeline,
    files: Sequence[Path],
    *,
    top_k: int = 5,
    head: int = -1,
    batch: int = 64,
    max_pixels: int = MAX_PIXELS,
    option: str = "max_pixels",
) -> Iterator[tuple[Path, list[Prediction] | str]]:
    """Yield every file with the classes of its picture, or with the reason why it cannot be read.

    Args:
        pipeline: pipeline that recognises the pictures.
        files: paths of pictures, which are read as for training.
        top_k: number of classes of each picture; at most all.
        head: head whose scores are returned.
        batch: number of pictures that are recognised at once.
        max_pixels: maximum number of pixels of a picture.
        option: name of this maximum, in the reason.
    """
    for start in range(0, len(files), batch):
        part = files[start : start + batch]
        pixels: list[torch.Tensor] = []
        reasons: dict[int, str] = {}
        for index, file in enumerate(part):
            try:
                pixels.append(
                    decode_image(str(file), pipeline.side, pipeline.pixel_channels, max_pixels, option)
                )
            except Unreadable as fault:
                reasons[index] = str(fault)
        logits = pipeline.logits(torch.stack(pixels)) if pixels else None
        predictions = iter([] if logits is None else pipeline.predictions(logits, top_k, head))
        for index, file in enumerate(part):
            yield file, reasons[index] if index in reasons else next(predictions)
