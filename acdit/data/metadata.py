"""Read metadata.jsonl or metadata.csv of a folder of files, as Hugging Face's image folders have them."""

import csv
from collections.abc import Container
from pathlib import Path
from typing import Any

from ..utils.errors import UserError
from ..utils.names import names_classes
from ..utils.untrusted import parse_json

METADATA = ("metadata.jsonl", "metadata.csv")
FILE_COLUMN = "file_name"
LABEL_COLUMN = "label"


def read_metadata(
    path: Path, files: Container[Path], label_column: str | None
) -> dict[Path, str | int | None]:
    """Read which files a metadata file names, and their classes.

    Args:
        path: path of the file, which names files relative to its folder, in its column `file_name`.
        files: files of this folder.
        label_column: column of the classes; None = the column `label` if there is one, "" = none.

    Returns:
        Class of each file, None for all if there is no column of classes.

    Raises:
        UserError: if the file is damaged, names a file that is not in its folder or one file twice, or if a
            class is missing.
    """
    rows = _rows(path)
    columns = list(dict.fromkeys(name for _, row in rows for name in row if name))
    if FILE_COLUMN not in columns:
        raise UserError(f"{path} must have a column {FILE_COLUMN}; its columns are: {', '.join(columns)}")
    if label_column and label_column not in columns:
        raise UserError(
            f"data.label_column {label_column!r} is not a column of {path}; its columns are: "
            f"{', '.join(columns)}"
        )
    column = label_column or None
    if label_column is None and LABEL_COLUMN in columns:
        column = LABEL_COLUMN
    elif label_column is None:
        likely = [name for name in columns if names_classes(name)]
        if likely:
            raise UserError(
                f"{path} does not say which column holds its classes, perhaps {' or '.join(likely)}: set "
                "data.label_column to it, or to '' for no classes"
            )
    labels: dict[Path, str | int | None] = {}
    for line, row in rows:
        name = row.get(FILE_COLUMN)
        file = path.parent / name if isinstance(name, str) else path.parent
        if file not in files:
            raise UserError(f"{path} names {name!r} in line {line}, which is not a file in {path.parent}")
        if file in labels:
            raise UserError(f"{path} names {name!r} twice, again in line {line}: remove one")
        label = None if column is None else row.get(column)
        if column is not None and (label in (None, "") or not isinstance(label, str | int)):
            raise UserError(
                f"{path} has {label!r} in line {line} of its column {column!r}, which must hold classes: "
                "words or whole numbers"
            )
        labels[file] = label
    kinds = {type(label) for label in labels.values()}
    if len(kinds) > 1:
        raise UserError(f"{path} must hold classes of one kind in its column {column!r}: words or numbers")
    return labels


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows of a metadata file, each with the number of its line."""
    table = path.suffix == ".csv"
    lines: list[tuple[int, Any]] = []
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="" if table else None) as file:
            if table:
                reader = csv.reader(file, strict=True)
                lines = [(reader.line_num, values) for values in reader if values]
            else:
                for line, text in enumerate(file, 1):
                    if text.strip():
                        row: Any = parse_json(text, "the line", infinite=True)
                        lines.append((line, dict(row)))
    except (OSError, ValueError, TypeError, csv.Error) as fault:
        where = f" in line {line}" if line else ""
        raise UserError(f"{path} cannot be read{where}: {fault}") from fault
    rows = _named_values(path, lines) if table else lines
    if not rows:
        raise UserError(f"{path} has no rows: fill it, or remove it")
    return rows


def _named_values(path: Path, lines: list[tuple[int, list[str]]]) -> list[tuple[int, dict[str, Any]]]:
    """Return the rows of a table by the names in its first line.

    Raises:
        UserError: if two columns have one name, or a row has another number of values than there are columns.
    """
    names = lines[0][1] if lines else []
    if len(set(names)) != len(names):
        raise UserError(f"{path} has several columns of one name in its first line: {', '.join(names)}")
    for line, values in lines:
        if len(values) != len(names):
            raise UserError(
                f"{path} has {len(values)} values in line {line}, but {len(names)} columns: put names and "
                "classes with commas in double quotes"
            )
    return [(line, dict(zip(names, values, strict=True))) for line, values in lines[1:]]
