"""Read metadata.jsonl or metadata.csv of a folder of files, as Hugging Face's image folders have them."""

from collections.abc import Container
from pathlib import Path
from typing import Any

from ..utils.errors import UserError
from ..utils.names import names_classes
from ..utils.untrusted import parse_json
from .csv_tables import read_table

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
    try:
        with path.open(encoding="utf-8-sig", newline="" if path.suffix == ".csv" else None) as file:
            text = file.read()
    except (OSError, ValueError) as fault:
        raise UserError(f"{path} cannot be read: {fault}") from fault
    rows = read_table(text, path) if path.suffix == ".csv" else _objects(text, path)
    if not rows:
        raise UserError(f"{path} has no rows: fill it, or remove it")
    return rows


def _objects(text: str, path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the objects on the lines of a JSON Lines file, each with the number of its line."""
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if line.strip():
                row: Any = parse_json(line, "the line", infinite=True)
                rows.append((number, dict(row)))
        except (ValueError, TypeError) as fault:
            raise UserError(f"{path} cannot be read in line {number}: {fault}") from fault
    return rows
