"""Samples in .npz files of the ADM evaluator, as `acdit sample` writes them."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..media.pictures import MAX_PIXELS
from ..model.layout import dims
from ..utils.array_files import ArrayFile
from ..utils.errors import UserError
from .samples import Reader, StoredSamples

PICTURES, LABELS = "arr_0", "arr_1"  # names of the arrays
LARGEST_LABELS = 2**30  # bytes


class ArraySamples(StoredSamples):
    """Images or clips in an .npz file, which is read batch by batch; see `Samples`.

    `arr_0` holds images (N, H, W, C) or clips (N, F, H, W, C) as uint8, of 1 or 3 channels, and `arr_1`, if
    it is there, their classes (N,).

    Args:
        path: path of the file.

    Raises:
        UserError: if the file is damaged, or its arrays are of another type or shape.
    """

    def __init__(self, path: Path) -> None:
        self._file = ArrayFile(path)
        if PICTURES not in self._file.arrays:
            held = ", ".join(map(str, list(self._file.arrays)[:8])) or "no arrays"
            raise UserError(f"{path} has no array {PICTURES} of pictures, (N, H, W, 3): it holds {held}")
        pictures = self._file.arrays[PICTURES]
        if pictures.dtype != np.uint8:
            raise UserError(
                f"{path} holds pictures of type {pictures.dtype}: {PICTURES} must be uint8, with values 0 to "
                "255"
            )
        shape = pictures.shape
        if len(shape) not in (4, 5) or shape[-1] not in (1, 3):
            raise UserError(
                f"{path} holds {PICTURES} of shape ({dims(shape, ', ')}): it must be (N, H, W, C), or "
                "(N, F, H, W, C) for clips, with 1 or 3 channels C at the end"
            )
        if 0 in shape[1:] or np.prod(shape[1:-1], dtype=float) > MAX_PIXELS:
            raise UserError(f"{path} holds pictures of {dims(shape[1:-1])} pixels, which are not supported")
        super().__init__(str(path), (shape[-1], *shape[1:-1]), shape[0], self._labels())

    @contextmanager
    def opened(self) -> Iterator[Reader]:
        """Open the file to read pictures from front to back."""
        with self._file.rows(PICTURES) as rows:

            def read(indices: Sequence[int]) -> tuple[Sequence[int], Tensor]:
                pixels = torch.from_numpy(rows(indices))  # (n, .., C)
                return indices, pixels.movedim(-1, 1).contiguous().float() / 127.5 - 1

            yield read

    def digest(self) -> str:
        """Return a digest of size, time and checksum of the file's pictures, which are not read for it."""
        pictures, status = self._file.arrays[PICTURES], self._file.path.stat()
        facts = (pictures.shape, pictures.checksum, status.st_size, status.st_mtime_ns)
        return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()

    def _labels(self) -> Tensor | None:
        if LABELS not in self._file.arrays:
            return None
        array, count = self._file.arrays[LABELS], self._file.arrays[PICTURES].shape[0]
        if array.dtype.kind not in "iu" or array.shape != (count,):
            raise UserError(
                f"{self._file.path} holds {LABELS} of type {array.dtype} and shape "
                f"({dims(array.shape, ', ')}): it must hold the class of each of {count} pictures as a whole "
                "number"
            )
        return torch.from_numpy(self._file.read(LABELS, LARGEST_LABELS).astype(np.int64))
