"""Sets of images, clips or texts that are read in batches."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from copy import copy
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor

from ..utils.errors import UserError
from ..utils.ranks import ALONE, Ranks

ROUNDING = 1e-2  # by which samples may leave [-1, 1], as those in half precision do
Part = TypeVar("Part", covariant=True)  # batch of samples: a tensor, or a sequence of texts
Reader = Callable[[Sequence[int]], tuple[Sequence[int], Tensor]]
"""Function that reads samples by ascending indices: the indices of readable ones, and these (n, *shape)."""


class Samples(Protocol[Part]):
    """Set of images, clips or texts, read in batches, so that a large one is never in memory as a whole.

    Attributes:
        name: name of the set in messages, such as the path of its file.
        shape: shape of a sample, (C, H, W) or (C, F, H, W); () for texts.
        labels: class of each sample, (N,); None if there are no classes.
        label_names: names of the classes; empty if they are not known.
        unreadable: files that were left out so far because they cannot be read, with the reasons.
    """

    name: str
    shape: tuple[int, ...]
    labels: Tensor | None
    label_names: tuple[str, ...]
    unreadable: dict[str, str]

    def __len__(self) -> int: ...

    def batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Sequence[int], Part]]:
        """Yield the batches rank, rank + ranks, .. of `size` samples: their indices, and the samples.

        Images and clips are of shape (n, *shape), float32 in [-1, 1]. Those of `unreadable` are left out.

        Raises:
            UserError: if samples cannot be read, or have another shape, type or range.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Return what identifies the set, as a value of JSON: name, count, and a digest where it is cheap."""
        ...


class StoredSamples(ABC):
    """Samples of which any can be read alone, such as those in files; see `Samples`.

    Args:
        name: name of the set in messages.
        shape: shape of a sample.
        count: number of samples, N.
        labels: class of each sample, (N,), if there are classes.
        label_names: names of the classes, if they are known.
    """

    def __init__(
        self,
        name: str,
        shape: Sequence[int],
        count: int,
        labels: Tensor | None = None,
        label_names: Sequence[str] = (),
    ) -> None:
        if not count:
            raise UserError(f"{name} holds no samples")
        self.name, self.shape = name, tuple(shape)
        self.labels, self.label_names = labels, tuple(label_names)
        self.unreadable: dict[str, str] = {}
        self._stored = count
        self._indices: Sequence[int] = range(count)
        self._origin = object()  # shared by the parts of a set

    @property
    def indices(self) -> Sequence[int]:
        """Return the indices of the samples among all stored ones."""
        return self._indices

    def __len__(self) -> int:
        return len(self._indices)

    @abstractmethod
    def opened(self) -> AbstractContextManager[Reader]:
        """Return a context in which samples are read; files stay open in it."""

    def digest(self) -> str | None:
        """Return a digest of all stored samples; None if it would take long to compute."""
        return None

    def spread(self, count: int) -> Self:
        """Return `count` of the samples at even steps, so that a set sorted by class keeps its proportions.

        Raises:
            UserError: if there are fewer samples.
        """
        if not 0 < count <= len(self):
            raise UserError(f"{self.name} has {len(self):,} samples, so {count:,} of them cannot be taken")
        return self.taken([number * len(self) // count for number in range(count)])

    def taken(self, positions: Sequence[int]) -> Self:
        """Return the samples at some positions, in ascending order, as a set of its own."""
        part = copy(self)
        part._indices = [self._indices[position] for position in positions]
        part.labels = None if self.labels is None else self.labels[list(positions)]
        part.unreadable = dict(self.unreadable)
        return part

    def shares_items(self, other: object) -> bool:
        """Return whether another set holds some of the same samples, as another part of one stored set."""
        return (
            isinstance(other, StoredSamples)
            and other._origin is self._origin
            and not set(self._indices).isdisjoint(other._indices)
        )

    def batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Yield the batches rank, rank + ranks, .. of `size` samples; see `Samples`."""
        with self.opened() as read:
            for first in range(rank * size, len(self), ranks * size):
                rows: Sequence[int] = range(first, min(first + size, len(self)))
                requested = [self._indices[row] for row in rows]
                readable, samples = read(requested)
                if len(readable) < len(rows):
                    rows = [row for row, index in zip(rows, requested, strict=True) if index in readable]
                if rows:
                    yield rows, samples

    def describe(self) -> dict[str, Any]:
        """Return name and number of the samples, and the digest of all stored ones if it is cheap.

        Of a part, the number of all (`of`) and a digest of their indices (`items`) are returned too.
        """
        facts: dict[str, Any] = {"name": self.name, "count": len(self)}
        if len(self) < self._stored:
            facts["of"] = self._stored
            facts["items"] = hashlib.blake2b(repr(list(self._indices)).encode(), digest_size=8).hexdigest()
        digest = self.digest()
        if digest is not None:
            facts["digest"] = digest
        if self.unreadable:
            facts |= {"left_out": len(self.unreadable), "left_out_files": dict(self.unreadable)}
        return facts


@runtime_checkable
class Drawable(Protocol):
    """Samples that have to be drawn before they are read."""

    def draw(self, size: int, ranks: Ranks) -> None:
        """Draw the batches of `size` samples that this rank reads.

        Raises:
            UserError: on all ranks, if samples cannot be drawn.
        """
        ...


class TensorSamples:
    """Samples in a tensor (N, *shape) in [-1, 1]; see `Samples`.

    Args:
        samples: the samples.
        labels: class of each sample, (N,), if there are classes.
        label_names: names of the classes.
        name: name of the set in messages.

    Raises:
        UserError: if they are not a tensor of floating-point numbers; when they are read, if they are outside
            [-1, 1].
    """

    def __init__(
        self,
        samples: Tensor,
        labels: Tensor | None = None,
        label_names: Sequence[str] = (),
        name: str = "samples",
    ):
        if not isinstance(samples, Tensor) or not samples.is_floating_point():
            kind = samples.dtype if isinstance(samples, Tensor) else type(samples).__name__
            raise UserError(
                f"{name} must be a tensor of floating-point numbers in [-1, 1], such as images (N, C, H, W), "
                f"not {kind}"
            )
        self._samples, self.labels, self.name = samples, labels, name
        self.shape, self.label_names = tuple(samples.shape[1:]), tuple(label_names)
        self.unreadable: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._samples)

    def batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Yield the batches rank, rank + ranks, .. of `size` samples; see `Samples`."""
        for first in range(rank * size, len(self), ranks * size):
            rows = range(first, min(first + size, len(self)))
            part = self._samples[rows.start : rows.stop].float()
            if bool((part.abs() > 1 + ROUNDING).any()):
                raise UserError(f"{self.name} must lie in [-1, 1], but reach {float(part.abs().max()):g}")
            yield rows, part

    def describe(self) -> dict[str, Any]:
        """Return name and number of the samples."""
        return {"name": self.name, "count": len(self)}


def picked(samples: Samples[Tensor], rows: Sequence[int], batch: int = 64, ranks: Ranks = ALONE) -> Tensor:
    """Return the samples with the given indices, (n, *shape), after reading the whole set in batches.

    Args:
        samples: the samples.
        rows: indices of a few of them.
        batch: number of samples that are read at a time.
        ranks: processes that share the batches; each gets all chosen samples.

    Raises:
        UserError: on all ranks, if one of them cannot be read.
    """
    own: dict[int, Tensor] = {}
    with ranks.failing_together():
        for numbers, part in samples.batches(batch, ranks.rank, ranks.world_size):
            own |= {number: part[place].clone() for place, number in enumerate(numbers) if number in rows}
    wanted = {number: sample for each in ranks.gathered(own) for number, sample in each.items()}
    missing = [row for row in rows if row not in wanted]
    if missing:
        raise UserError(f"{samples.name} has no readable sample {missing[0]}")
    return torch.stack([wanted[row] for row in rows])
