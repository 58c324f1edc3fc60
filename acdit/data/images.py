"""Data sets of images for training: every item is a pure function of (seed, epoch, index)."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from ..errors import UserError
from ..randomness import generator
from .decode import UnreadableImage, decode_image
from .digits import DIGITS, LABEL_NAMES, digit_images
from .sources import ImageTable, open_table

if TYPE_CHECKING:
    from ..training.config import DataConfig


class ImageDataset(Dataset[dict[str, Any]], ABC):
    """Square images of labelled classes, or what stands for them.

    An item's key is (epoch, index). The item holds `image` (C, H, W) float32 in [-1, 1], `label`, and the
    key's `epoch` and `index`.
    """

    channels: int
    image_size: int
    label_names: tuple[str, ...]
    labels: torch.Tensor  # (N,)
    flip_seed: int | None = None
    """Seed of the mirroring; None = images are never mirrored."""

    @property
    def damaged(self) -> torch.Tensor | None:
        """Which images (N,) could not be read so far, where that is known only when they are read."""
        return None

    @property
    def skipped(self) -> dict[str, str]:
        """What could not be read so far, and why."""
        return {}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} images")
        mirrored = False
        if self.flip_seed is not None:
            draw = torch.rand((), generator=generator(self.flip_seed, "flip", epoch, index))
            mirrored = bool(draw < 0.5)
        image, label = self.drawn(epoch, index, mirrored)
        return {"image": image, "label": label, "epoch": epoch, "index": index}

    @abstractmethod
    def drawn(self, epoch: int, index: int, mirrored: bool) -> tuple[torch.Tensor, int]:
        """Image (C, H, W) or its mirror image, and label, as a visit to it gives them."""


class PixelImages(ImageDataset):
    """Images that can be read without augmentation."""

    def drawn(self, epoch: int, index: int, mirrored: bool) -> tuple[torch.Tensor, int]:
        image, label = self.read(index)
        return (image.flip(-1) if mirrored else image), label

    def read(self, index: int) -> tuple[torch.Tensor, int]:
        """Image (C, H, W) and label, without augmentation."""
        return self.decode(index), int(self.labels[index])

    @abstractmethod
    def decode(self, index: int) -> torch.Tensor:
        """Image (C, H, W); UnreadableImage if this very one is damaged."""


class TensorImages(PixelImages):
    """Images in memory: `images` (N, C, H, W) in [-1, 1] and `labels` (N,)."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, label_names: tuple[str, ...]) -> None:
        self.images, self.labels, self.label_names = images, labels, label_names
        self.channels, self.image_size = images.shape[1], images.shape[3]

    def decode(self, index: int) -> torch.Tensor:
        return self.images[index]


class FileImages(PixelImages):
    """Images decoded and cropped when read; where one is damaged, the next good one takes its place."""

    def __init__(self, table: ImageTable, *, image_size: int, channels: int, flip_seed: int | None) -> None:
        self.table, self.labels, self.label_names = table, table.labels, table.label_names
        self.image_size, self.channels, self.flip_seed = image_size, channels, flip_seed
        # shared with the loader's worker processes, so that `skipped` knows what they found
        self._damaged = torch.zeros(len(self), dtype=torch.bool).share_memory_()

    @property
    def damaged(self) -> torch.Tensor:
        return self._damaged

    @property
    def skipped(self) -> dict[str, str]:
        found = {}
        for index in self.damaged.nonzero().flatten().tolist():
            encoded = self.encoded(index)
            name = encoded if isinstance(encoded, str) and encoded else f"row {index}"
            try:
                self.decode(index)
                found[name] = "could not be read at first"
            except UnreadableImage as fault:
                found[name] = str(fault)
        return self.table.skipped | found

    def read(self, index: int) -> tuple[torch.Tensor, int]:
        for step in range(len(self)):
            good = (index + step) % len(self)
            if self.damaged[good]:
                continue
            try:
                return self.decode(good), int(self.labels[good])
            except UnreadableImage:
                self.damaged[good] = True
        name, reason = next(iter(self.skipped.items()))
        raise UserError(f"none of the {len(self)} images can be decoded; {name}, for one: {reason}")

    def decode(self, index: int) -> torch.Tensor:
        encoded = self.encoded(index)
        if not encoded:
            raise UnreadableImage("holds no image")
        return decode_image(encoded, self.image_size, self.channels)

    def encoded(self, index: int) -> bytes | str | None:
        """A file's bytes or its path."""
        cell = self.table.images[index]["image"] or {}
        return cell.get("bytes") or cell.get("path")


def open_images(config: "DataConfig", *, seed: int, held_out: bool = False) -> PixelImages:
    """The images that `config` names; see DataConfig.

    Args:
        seed: decides, with epoch and index, which images are mirrored; never which are held out.
        held_out: the fifth of the digits that training never sees. Other sources have no such part.

    Raises:
        UserError: if there are no images, or the configuration does not fit them.
    """
    if config.source in DIGITS:
        images, labels = digit_images(config.source, held_out=held_out)
        edge = images.shape[3]
        if config.image_size not in (None, edge):
            raise UserError(f"data.image_size of {config.source} is {edge}: leave out {config.image_size}")
        return TensorImages(images, labels, LABEL_NAMES)
    if held_out:
        raise UserError(f"data.source {config.source} has no held-out part, only {' and '.join(DIGITS)} have")
    if config.image_size is None or config.image_size < 1:
        raise UserError(f"data.image_size must be the edge in pixels for {config.source}, such as 256")
    table = open_table(config)
    flip_seed = seed if config.flip else None
    return FileImages(table, image_size=config.image_size, channels=config.channels, flip_seed=flip_seed)
