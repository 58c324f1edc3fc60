"""Descriptions of the files of a table: relative path and size, and a hash of the content on request."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..utils.names import normal
from .file_tables import FileTable, relative_path
from .identity import DIGEST_BYTES, FileContent

BATCH = 1000  # rows read at once


def described_files(table: FileTable) -> Iterator[bytes]:
    """Yield the path relative to the table's folder, and the size, of every file of a table."""
    for path, size in _paths_and_sizes(table):
        yield normal(relative_path(table, path)).encode(errors="surrogateescape") + f"\0{size}".encode()


def row_name(table: FileTable, row: int) -> str:
    """Return the relative path of a row's file, or the number of the row if it holds bytes without a name."""
    path = table.path(row)[0]
    return relative_path(table, path) if path else f"row {row}"


def modification_time(table: FileTable, row: int) -> int:
    """Return the time of the last modification of the file that holds the bytes of a row; 0 if unknown."""
    path, holds_bytes = table.path(row)
    if path and not holds_bytes:
        return _modified(path)
    return max((_modified(entry["filename"]) for entry in table.files.cache_files), default=0)


def file_content(table: FileTable, row: int) -> FileContent:
    """Return the hash of a file's content and its modification time; a missing file has an empty content."""
    modified, encoded = modification_time(table, row), table.encoded(row)
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    if isinstance(encoded, str):
        try:
            with Path(encoded).open("rb") as file:
                while chunk := file.read(2**20):
                    digest.update(chunk)
        except OSError:
            modified = 0  # looked at again
    else:
        digest.update(encoded or b"")
    return FileContent(digest.digest(), modified)


def _paths_and_sizes(table: FileTable) -> Iterator[tuple[str, int | None]]:
    """Yield path and size of every row; bytes are not read, only measured."""
    import pyarrow.compute

    compute: Any = pyarrow.compute  # whose functions are made when it is imported
    batches: Any = table.files.with_format("arrow").iter(BATCH)
    for batch in batches:
        sizes = compute.binary_length(compute.struct_field(batch["file"], "bytes")).to_pylist()
        paths = compute.struct_field(batch["file"], "path").to_pylist()
        for path, size in zip(paths, sizes, strict=True):
            yield path or "", size if size is not None else _size(path)


def _size(path: str | None) -> int | None:
    try:
        return None if path is None else os.stat(path).st_size
    except OSError:
        return None


def _modified(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
