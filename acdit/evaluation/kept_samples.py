"""Samples that are kept on disk when they are first read, because drawing them again would take as long."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, tensor

from .samples import Samples


class KeptSamples:
    """Samples of another set, each batch of which is read once and kept in a temporary folder.

    Generated samples are read again for every feature extractor. Only one batch is in memory at a time. The
    folder is removed when the object is.

    Args:
        samples: the other set.
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._folder = tempfile.TemporaryDirectory(prefix="acdit-samples-")
        self.name, self.shape, self.label_names = samples.name, samples.shape, samples.label_names
        self.labels, self.unreadable = samples.labels, samples.unreadable

    def __len__(self) -> int:
        return len(self._samples)

    def batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Yield the batches of the other samples; see `Samples`."""
        finished = self._path(size, rank, ranks, "finished")
        if finished.exists():
            for number in range(int(finished.read_text())):
                kept = load_file(self._path(size, rank, ranks, str(number)))
                yield kept["rows"].tolist(), kept["samples"]
            return
        count = 0
        for rows, part in self._samples.batches(size, rank, ranks):
            save_file(
                {"rows": tensor(list(rows)), "samples": part.contiguous()},
                self._path(size, rank, ranks, str(count)),
            )
            count += 1
            yield rows, part
        finished.write_text(str(count))

    def describe(self) -> dict[str, Any]:
        """Return the description of the other samples."""
        return self._samples.describe()

    def _path(self, size: int, rank: int, ranks: int, name: str) -> Path:
        return Path(self._folder.name) / f"{size}-{rank}-{ranks}-{name}"
