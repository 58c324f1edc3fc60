"""Base classes of training data sets, whose items are pure functions of (seed, epoch, index)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypedDict

import torch
from torch.utils.data import Dataset

from ..utils.randomness import generator
from .identity import DataIdentity, FileContent, identify


class Item(TypedDict):
    """One item of a data set, before a loader collates several into a batch."""

    data: torch.Tensor  # (C, *size) float32 in [-1, 1], or token ids (L,) int64
    label: int
    epoch: int
    index: int


class Batch(TypedDict):
    """Batch of items, as a loader collates them."""

    data: torch.Tensor  # (n, C, *size), or (n, L)
    label: torch.Tensor  # (n,)
    epoch: torch.Tensor  # (n,)
    index: torch.Tensor  # (n,)


class LabelledDataset(Dataset[Item], ABC):
    """Data set of images, clips, latents or texts with class labels. The key of an item is (epoch, index).

    Attributes:
        channels: number of channels of a data element, such as a pixel.
        size: size of an item: (H, W) for square images, (F, H, W) for clips of F frames, (L,) for texts.
        label_names: names of the classes, indexed by label; empty if there are none, `utils.names.NAMELESS`
            for files without classes.
        labels: class of each item, (N,).
        flip_seed: seed of the random mirroring; None = items are never mirrored.
        source: name of a built-in data set or of one on the hub; empty for local files.
        recorded_name: name of the data set as pipelines record it; None if it has none.
        notes: lines that a run prints before it trains on the data.
    """

    channels: int
    size: tuple[int, ...]
    label_names: tuple[str, ...]
    labels: torch.Tensor  # (N,)
    flip_seed: int | None = None
    source: str = ""
    recorded_name: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def identity(self) -> DataIdentity:
        """Return the identity of the data, as far as it follows from the labels; it takes time to compute."""
        items = ((b"", label) for label in self.labels.tolist())
        return identify(self.source, "items", self.label_names, items)

    @property
    def tokenizer_digest(self) -> str | None:
        """Return a hash of the tokenizer that produced the ids; None if the data are not token ids."""
        return None

    @property
    def read_otherwise(self) -> str | None:
        """Return a note on data that an earlier version read as other samples; None if there are none."""
        return None

    @property
    def values(self) -> int:
        """Return the number of channels of a data element, or of ids of a token, including the mask."""
        return self.channels

    @property
    def damaged(self) -> torch.Tensor | None:
        """Return a mask (N,) of the items that could not be read so far; None if it is not recorded."""
        return None

    @property
    def skipped(self) -> dict[str, str]:
        """Return what was left out, and could not be read so far, by name, with the reasons."""
        return {}

    def name(self, index: int) -> str:
        """Return the name of an item in messages: the path of its file, or else its row."""
        return f"row {index}"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is out of range for a data set of {len(self)} items")
        mirrored = False
        if self.flip_seed is not None:
            draw = torch.rand((), generator=generator(self.flip_seed, "flip", epoch, index))
            mirrored = bool(draw < 0.5)
        data, label = self.drawn(epoch, index, mirrored)
        return {"data": data, "label": label, "epoch": epoch, "index": index}

    @abstractmethod
    def drawn(self, epoch: int, index: int, mirrored: bool) -> tuple[torch.Tensor, int]:
        """Return the data (C, *size), mirrored if requested, and the label of an item in an epoch."""


class PixelDataset(LabelledDataset):
    """Data set of pixels that can be read without augmentation."""

    def content(self, index: int) -> FileContent | None:
        """Return the content of the file of an item; None for data that are not in files."""
        return None

    def modified(self, index: int) -> int:
        """Return the time at which the file of an item was last modified, see `FileContent`."""
        return 0

    def file_name(self, index: int) -> str:
        """Return the name of the file of an item, relative to the data root."""
        return f"item {index}"

    def drawn(self, epoch: int, index: int, mirrored: bool) -> tuple[torch.Tensor, int]:
        """Return the data (C, *size), mirrored if requested, and the label of an item."""
        data, label = self.read(index)
        return (data.flip(-1) if mirrored else data), label

    def prepared(self, index: int) -> torch.Tensor:
        """Return the data of an item as objectives take them, see `decode`."""
        return self.decode(index)

    def read(self, index: int) -> tuple[torch.Tensor, int]:
        """Return the data (C, *size) and the label of an item, without augmentation."""
        return self.decode(index), int(self.labels[index])

    @abstractmethod
    def decode(self, index: int) -> torch.Tensor:
        """Return the data (C, *size) of an item, without augmentation.

        Raises:
            Unreadable: if this item itself is damaged.
        """


class SelectedItems(PixelDataset):
    """Some items of another data set.

    Args:
        data: the other data set.
        indices: indices of the items.
    """

    def __init__(self, data: PixelDataset, indices: Sequence[int]) -> None:
        self._data, self._indices = data, list(indices)
        self.channels, self.size, self.label_names = data.channels, data.size, data.label_names
        self.labels, self.flip_seed = data.labels[self._indices], data.flip_seed

    @property
    def identity(self) -> DataIdentity:
        """Return the identity of the data, with a hash of their values."""
        values = (self.decode(index).contiguous().numpy().tobytes() for index in range(len(self)))
        items = zip(values, self.labels.tolist(), strict=True)
        return identify(self.source, "items", self.label_names, items)

    def name(self, index: int) -> str:
        """Return the name of an item in messages."""
        return self._data.name(self._indices[index])

    def decode(self, index: int) -> torch.Tensor:
        """Return the data (C, *size) of an item, without augmentation."""
        return self._data.decode(self._indices[index])


class InMemoryDataset(PixelDataset):
    """Data set of `data` (N, C, *size) in [-1, 1] and `labels` (N,) in memory."""

    def __init__(self, data: torch.Tensor, labels: torch.Tensor, label_names: tuple[str, ...]) -> None:
        self.data, self.labels, self.label_names = data, labels, label_names
        self.channels, self.size = data.shape[1], tuple(data.shape[2:])

    @property
    def identity(self) -> DataIdentity:
        """Return the identity of the data, with a hash of their values."""
        values = (item.contiguous().numpy().tobytes() for item in self.data)
        items = zip(values, self.labels.tolist(), strict=True)
        return identify(self.source, "items", self.label_names, items)

    def decode(self, index: int) -> torch.Tensor:
        """Return the data (C, *size) of an item."""
        return self.data[index]
