"""The protocol of data sets for training: every item is a pure function of (seed, epoch, index)."""

from abc import ABC, abstractmethod
from typing import TypedDict

import torch
from torch.utils.data import Dataset

from ..utils.randomness import generator


class Item(TypedDict):
    """One item of a data set, before a loader puts several into a batch."""

    data: torch.Tensor  # (C, *size) float32 in [-1, 1], or token ids (L,) int64
    label: int
    epoch: int
    index: int


class Batch(TypedDict):
    """Items as a loader puts them together."""

    data: torch.Tensor  # (n, C, *size), or (n, L)
    label: torch.Tensor  # (n,)
    epoch: torch.Tensor  # (n,)
    index: torch.Tensor  # (n,)


class LabelledDataset(Dataset[Item], ABC):
    """Images or clips of labelled classes, or what stands for them. An item's key is (epoch, index).

    Attributes:
        channels: of a data element, such as a pixel.
        size: of an item: (H, W) of square images, (F, H, W) of clips of F frames, (L,) of texts.
        label_names: of the classes, by label; empty where there are none.
        labels: (N,).
        flip_seed: seed of the mirroring; None = nothing is ever mirrored.
    """

    channels: int
    size: tuple[int, ...]
    label_names: tuple[str, ...]
    labels: torch.Tensor  # (N,)
    flip_seed: int | None = None

    @property
    def tokenizer_digest(self) -> str | None:
        """A hash of the tokeniser that made the ids; None for values."""
        return None

    @property
    def values(self) -> int:
        """Values of a data element: its channels, or how many ids a token may be, the mask included."""
        return self.channels

    @property
    def damaged(self) -> torch.Tensor | None:
        """Which items (N,) could not be read so far, where that is known only when they are read."""
        return None

    @property
    def skipped(self) -> dict[str, str]:
        """What could not be read so far, and why."""
        return {}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        epoch, index = key
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} items")
        mirrored = False
        if self.flip_seed is not None:
            draw = torch.rand((), generator=generator(self.flip_seed, "flip", epoch, index))
            mirrored = bool(draw < 0.5)
        data, label = self.drawn(epoch, index, mirrored)
        return {"data": data, "label": label, "epoch": epoch, "index": index}

    @abstractmethod
    def drawn(self, epoch: int, index: int, mirrored: bool) -> tuple[torch.Tensor, int]:
        """Data (C, *size), perhaps mirrored, and label, as a visit to it gives them."""


class PixelDataset(LabelledDataset):
    """Pixels that can be read without augmentation."""

    def drawn(self, epoch: int, index: int, mirrored: bool) -> tuple[torch.Tensor, int]:
        data, label = self.read(index)
        return (data.flip(-1) if mirrored else data), label

    def read(self, index: int) -> tuple[torch.Tensor, int]:
        """Data (C, *size) and label, without augmentation."""
        return self.decode(index), int(self.labels[index])

    @abstractmethod
    def decode(self, index: int) -> torch.Tensor:
        """Data (C, *size); Unreadable if this very one is damaged."""


class InMemoryDataset(PixelDataset):
    """`data` (N, C, *size) in [-1, 1] and `labels` (N,), in memory."""

    def __init__(self, data: torch.Tensor, labels: torch.Tensor, label_names: tuple[str, ...]) -> None:
        self.data, self.labels, self.label_names = data, labels, label_names
        self.channels, self.size = data.shape[1], tuple(data.shape[2:])

    def decode(self, index: int) -> torch.Tensor:
        return self.data[index]
