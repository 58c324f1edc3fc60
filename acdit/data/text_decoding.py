"""Read texts from the bytes of files: plain text, and the rows of JSON, CSV, TSV and Parquet files."""

import codecs
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..utils.errors import UserError, is_out_of_memory, reason_of
from .csv_tables import read_table

# the signature of UTF-32 starts with that of UTF-16
SIGNATURES = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
Rows = Sequence[Mapping[str, Any]]


def decode_text(content: bytes, name: str) -> str:
    """Decode the bytes of a text file: UTF-8, or UTF-16 or UTF-32 with a signature, which is removed.

    Line endings are kept as they are.

    Args:
        content: bytes of the file.
        name: name of the file in messages.

    Raises:
        UserError: if the file is compressed or has another encoding, or if it holds NUL bytes, which stand
            for UTF-16 without a signature or for a file that is not a text.
    """
    compression = next((kind for magic, kind in COMPRESSED.items() if content.startswith(magic)), None)
    if compression is not None and not _is_utf8(content):
        raise UserError(f"{name} is compressed ({compression}): decompress it first")
    signature = next((each for each in SIGNATURES if content.startswith(each)), b"")
    encoding = SIGNATURES.get(signature, "utf-8")
    if encoding == "utf-8" and b"\0" in content:
        raise _nul_error(name, content.index(b"\0"))
    try:
        text = content[len(signature) :].decode(encoding)
    except UnicodeDecodeError as fault:
        start = len(signature) + fault.start
        raise UserError(
            f"{name} is not {_family(encoding)}: byte 0x{content[start]:02x} at {start:,}; "
            "convert or remove it"
        ) from fault
    if "\0" in text:
        offset = len(signature) + len(text[: text.index("\0")].encode(encoding))
        raise _nul_error(name, offset)
    return text


def _nul_error(name: str, offset: int) -> UserError:
    return UserError(
        f"{name} has a NUL byte at {offset:,}, so it is no text: convert it to UTF-8 (it may be UTF-16 "
        "without a signature), or remove it"
    )


def _family(encoding: str) -> str:
    """Return the name of an encoding without its order of bytes."""
    return "-".join(encoding.upper().split("-")[:2])


def read_documents(path: Path, column: str | None) -> Iterator[str]:
    """Yield the texts of a file: those of its rows, if its suffix is that of a table, else all of it.

    Args:
        path: file to read.
        column: column of the texts in a table; None = the only one that holds texts.

    Raises:
        UserError: if the file is empty, damaged or not a text, or if no column of texts is found.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _parquet_texts(path, column)
        return
    content = path.read_bytes()
    text = decode_text(content, str(path))
    if not text:
        raise UserError(f"{path} is an empty file: delete it, or fill it with text")
    if suffix not in READERS:
        yield text
        return
    rows = READERS[suffix](text, path)
    names = dict.fromkeys(name for row in rows for name in row)
    textual = [name for name in names if _holds_texts(row.get(name) for row in rows)]
    chosen = choose_column(textual, column, f"{path}: ")
    yield from (row.get(chosen) or "" for row in rows)


def has_markup(path: Path) -> bool:
    """Return whether a file is a table, or starts with a signature."""
    if path.suffix.lower() in READERS:
        return True
    with path.open("rb") as file:
        return file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8


def choose_column(textual: Sequence[str], column: str | None, prefix: str = "") -> str:
    """Return the requested column, or the only column that holds texts.

    Args:
        textual: columns that hold texts.
        column: requested column, or None.
        prefix: start of the message of an error.

    Raises:
        UserError: if there is not exactly one, or if the requested column is none of them.
    """
    if column is None and len(textual) == 1:
        return textual[0]
    if column is None or column not in textual:
        problem = "must be set" if column is None else f"{column!r} is not a column of texts"
        listed = ", ".join(textual) or "none"
        raise UserError(f"{prefix}data.text_column {problem}; columns with texts: {listed}")
    return column


def _is_utf8(content: bytes) -> bool:
    """Return whether bytes are UTF-8 without NUL bytes; a text may start with BZh."""
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def _holds_texts(values: Iterable[object]) -> bool:
    """Return whether values are texts or missing, and at least one is a text."""
    listed = [value for value in values if value is not None]
    return bool(listed) and all(isinstance(value, str) for value in listed)


def _json_lines(text: str, path: Path) -> Rows:
    """Return the objects on the lines of a file."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as fault:
            raise UserError(f"{path} has no JSON in line {number}: {fault}; repair or remove it") from fault
        if not isinstance(row, dict):
            raise UserError(f"{path} must hold a JSON object in each line; line {number} holds another value")
        rows.append(row)
    return rows


def _json_rows(text: str, path: Path) -> Rows:
    """Return the objects of a JSON list, or those on the lines of a file."""
    if not text.lstrip().startswith("["):
        return _json_lines(text, path)
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise UserError(f"{path} is not JSON: {fault}; repair or remove it") from fault
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} must hold a list of JSON objects, each with the text in one of its keys")
    return rows


def _table_rows(text: str, path: Path, delimiter: str) -> Rows:
    """Return the rows of a CSV or TSV file by the names in its first line."""
    return [row for _, row in read_table(text, path, delimiter)]


def _parquet_texts(path: Path, column: str | None) -> Iterator[str]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as table:
            types = {field.name: field.type for field in table.schema_arrow}
            textual = [
                name
                for name, kind in types.items()
                if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
            ]
            chosen = choose_column(textual, column, f"{path}: ")
            for batch in table.iter_batches(columns=[chosen]):
                yield from (text or "" for text in batch.column(0).to_pylist())
    except (pyarrow.ArrowException, OSError) as fault:
        if is_out_of_memory(fault) or getattr(fault, "errno", None) is not None:
            raise UserError(f"{path} cannot be read: {reason_of(fault)}") from fault
        reason = " ".join(str(fault).split())
        raise UserError(f"{path} is not a Parquet file: {reason}; repair or remove it") from fault


READERS: dict[str, Callable[[str, Path], Rows]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_rows,
    ".csv": partial(_table_rows, delimiter=","),
    ".tsv": partial(_table_rows, delimiter="\t"),
}
TABLES = (*READERS, ".parquet")  # suffixes of files whose texts stand in columns
