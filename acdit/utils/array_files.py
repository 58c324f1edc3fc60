"""Read .npz files that may be damaged or hostile: in rows where they are large, and never a pickle.

This module does not import torch.
"""

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from .errors import UserError
from .untrusted import MAX_AXES, check_file, damage, plain, reading

COMPRESSION = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}  # largest ratio of the sizes by method
LARGEST_OVERHEAD = 2**16  # bytes of a compressed array beyond that ratio
SUFFIX = ".npy"
PART = 2**22  # bytes of an array that are decompressed at a time
RowReader = Callable[[Sequence[int]], np.ndarray]


@dataclass(frozen=True)
class StoredArray:
    """Array in an .npz file, of which only the header has been read.

    Attributes:
        dtype: type of the elements.
        shape: shape of the array.
        start: number of bytes before the first element.
        checksum: CRC-32 of its bytes, as the file states it.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    checksum: int

    @property
    def size(self) -> int:
        """Return the number of bytes of the elements."""
        return math.prod(self.shape) * self.dtype.itemsize


class ArrayFile:
    """Arrays of an .npz file; their headers are read and checked at once, their elements on request.

    Args:
        path: path of the file.

    Attributes:
        arrays: headers by name.
        comment: comment of the archive, in which programs describe what they wrote.

    Raises:
        UserError: if the file is no .npz file or is damaged, if an array consists of Python objects, or if it
            declares more elements than the file can hold.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.arrays = path, dict[str, StoredArray]()
        size = check_file(path)
        with self._archive() as archive:
            self.comment = archive.comment
            for member in archive.infolist():
                name = member.filename
                if not name.endswith(SUFFIX):
                    continue
                if name.removesuffix(SUFFIX) in self.arrays:
                    raise ValueError(f"it holds the array {plain(name)} twice")
                ratio = COMPRESSION.get(member.compress_type)
                if ratio is None:
                    raise ValueError(f"{plain(name)} is compressed by a method that NumPy does not use")
                most = min(size, member.compress_size) * ratio + LARGEST_OVERHEAD * (ratio > 1)
                if member.file_size > most:
                    raise ValueError(
                        f"{plain(name)} declares {member.file_size:,} bytes, more than its "
                        f"{member.compress_size:,} compressed bytes can hold"
                    )
                with archive.open(member) as content:
                    header = self._header(content, name, member)
                self.arrays[name.removesuffix(SUFFIX)] = header

    def read(self, name: str, largest: int) -> np.ndarray:
        """Return an array of at most `largest` bytes as a whole.

        Raises:
            UserError: if it is larger, or the file is damaged.
        """
        array = self.arrays[name]
        if array.size > largest:
            raise damage(self.path, f"{name} has {array.size:,} bytes, more than the {largest:,} it may have")
        with self._archive() as archive, archive.open(name + SUFFIX) as content:
            content.read(array.start)
            values = np.empty(array.size, np.uint8)
            for first in range(0, array.size, PART):
                part = values[first : first + PART]
                part[:] = np.frombuffer(_exactly(content, len(part)), np.uint8)
            content.read(1)  # at the end, the checksum is compared
        return values.view(array.dtype).reshape(array.shape)

    @contextmanager
    def rows(self, name: str) -> Iterator[RowReader]:
        """Yield a function that returns the rows of an array with the given numbers, in ascending order.

        Later calls must ask for later rows, since the file is read from front to back.

        Raises:
            UserError: if the file is damaged; the function raises it too.
        """
        array = self.arrays[name]
        width = array.size // max(1, array.shape[0])
        position = 0  # number of rows that are read already
        with ExitStack() as stack:
            with self._damaged():  # not around the use of the function, whose errors are others
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                content = stack.enter_context(archive.open(name + SUFFIX))
                content.read(array.start)

            def read(numbers: Sequence[int]) -> np.ndarray:
                nonlocal position
                parts = bytearray()
                with self._damaged():
                    for number in numbers:
                        while position < number:
                            _exactly(content, width)
                            position += 1
                        parts += _exactly(content, width)
                        position += 1
                    if position == array.shape[0]:
                        content.read(1)  # at the end, the checksum is compared
                return np.frombuffer(parts, array.dtype).reshape(len(numbers), *array.shape[1:])

            yield read

    def _header(self, content: IO[bytes], name: str, member: zipfile.ZipInfo) -> StoredArray:
        """Return the header of an array at the start of its content."""
        version = np.lib.format.read_magic(content)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"{plain(name)} has the format {version[0]}.{version[1]}, which is not read")
        shape, in_columns, dtype = readers[version](content)
        if dtype.hasobject:
            raise UserError(
                f"{self.path} holds Python objects (pickles) in {plain(name)}, which are never loaded: save "
                "arrays of numbers"
            )
        if in_columns and len(shape) > 1:
            shape_text = ", ".join(map(str, shape))
            raise UserError(
                f"{self.path} holds {plain(name)} of shape ({shape_text}) in Fortran order: save "
                "numpy.ascontiguousarray(..) of it"
            )
        if len(shape) > MAX_AXES or any(type(side) is not int or not 0 <= side < 2**62 for side in shape):
            raise ValueError(f"the shape of {plain(name)} is impossible")
        header = StoredArray(dtype, tuple(shape), content.tell(), member.CRC)
        if header.start + header.size != member.file_size:
            raise ValueError(
                f"{plain(name)} has {member.file_size - header.start:,} bytes, but its shape needs "
                f"{header.size:,}"
            )
        return header

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        with self._damaged(), zipfile.ZipFile(self.path) as archive:
            yield archive

    @contextmanager
    def _damaged(self) -> Iterator[None]:
        """Turn errors that the content of the file causes into UserError."""
        with reading(self.path):
            try:
                yield
            except zipfile.BadZipFile as error:
                raise ValueError(f"it is no .npz file, or incomplete: {error}") from error
            except (zlib.error, struct.error, SyntaxError, tokenize.TokenError) as error:
                raise ValueError(f"its content cannot be decoded: {error}") from error


def _exactly(content: IO[bytes], size: int) -> bytes:
    """Return the next bytes, as many as requested."""
    data = content.read(size)
    if len(data) != size:
        raise ValueError("it ends too early")
    return data
