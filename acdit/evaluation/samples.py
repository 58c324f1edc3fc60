"""Sets of images, clips or texts that are read in batches."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor

Part = TypeVar("Part", covariant=True)  # batch of samples: a tensor, or a sequence of texts


class Samples(Protocol[Part]):
    """Set of images, clips or texts, read in batches, so that a large one is never in memory as a whole.

    Attributes:
        name: name of the set in messages, such as the path of its file.
        shape: shape of a sample, (C, H, W) or (C, F, H, W); () for texts.
        labels: class of each sample, (N,); None if there are no classes.
        label_names: names of the classes; empty if there are none.
    """

    name: str
    shape: tuple[int, ...]
    labels: Tensor | None
    label_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple[range, Part]]:
        """Yield the batches rank, rank + ranks, .. of `size` samples: their indices, and the samples.

        Images and clips are of shape (n, *shape), float32 in [-1, 1].

        Raises:
            UserError: if samples cannot be read, or have another shape, type or range.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return what identifies the set, as a value of JSON: name, count, and a digest where it is cheap."""
        ...


class TensorSamples:
    """Samples in a tensor (N, *shape) in [-1, 1]; see `Samples`.

    Args:
        samples: the samples.
        labels: class of each sample, (N,), if there are classes.
        label_names: names of the classes.
        name: name of the set in messages.
    """

    def __init__(
        self,
        samples: Tensor,
        labels: Tensor | None = None,
        label_names: Sequence[str] = (),
        name: str = "samples",
    ):
        self._samples, self.labels, self.name = samples, labels, name
        self.shape, self.label_names = tuple(samples.shape[1:]), tuple(label_names)

    def __len__(self) -> int:
        return len(self._samples)

    def batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple[range, Tensor]]:
        """Yield the batches rank, rank + ranks, .. of `size` samples; see `Samples`."""
        for first in range(rank * size, len(self), ranks * size):
            rows = range(first, min(first + size, len(self)))
            yield rows, self._samples[rows.start : rows.stop].float()

    def describe(self) -> dict[str, Any]:
        """Return name and number of the samples."""
        return {"name": self.name, "count": len(self)}
