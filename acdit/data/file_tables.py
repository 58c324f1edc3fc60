"""Tables of encoded images or videos and their classes, from a folder or a Hugging Face data set."""

import hashlib
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..utils.checks import here_or_on_hub
from ..utils.errors import UserError
from ..utils.names import NAMELESS, class_order, names_classes, normal
from ..utils.progress_bar import ProgressBar
from .class_folders import ClassFiles, find_class_files
from .config import DataConfig
from .folders import holds_tables, visible_entries
from .image_decoding import Unreadable
from .media_types import Media
from .rows import load_rows
from .selection import divided_rows

if TYPE_CHECKING:
    import datasets


@dataclass
class FileTable:
    """Table of encoded images or videos, each with a class."""

    modality: str
    """Name of the modality, `image` or `video`."""
    files: "datasets.Dataset"
    """Data set with one column, `file`, of dictionaries with the `bytes` of a file or its `path`."""
    labels: torch.Tensor
    """Class of each file, (N,) int64."""
    label_names: tuple[str, ...]
    """Names of the classes; a single class "" if the source has none."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Files that were left out, with the reasons."""
    folder: Path | None = None
    """Folder that the paths are identified relative to; None if the source is on the hub."""

    def encoded(self, row: int) -> bytes | str | None:
        """Return the bytes of a file, or its path; None if the row holds neither."""
        cell = self.files[row]["file"] or {}
        return cell.get("bytes") or cell.get("path")

    @cached_property
    def _cells(self) -> Any:
        return self.files.with_format("arrow")

    def path(self, row: int) -> tuple[str | None, bool]:
        """Return the path or name of a file, and whether the row holds its bytes, which are not read."""
        import pyarrow.compute

        compute: Any = pyarrow.compute  # whose functions are made when it is imported
        cell = self._cells[row : row + 1]["file"]
        size = compute.binary_length(compute.struct_field(cell, "bytes"))[0].as_py()
        return compute.struct_field(cell, "path")[0].as_py(), bool(size)

    def repeated(self, times: int) -> "FileTable":
        """Return a table in which every file is repeated `times` times in a row."""
        if times == 1:
            return self
        return self.select([row for row in range(len(self.labels)) for _ in range(times)])

    def select(self, rows: list[int]) -> "FileTable":
        """Return a table of the given rows, in the given order."""
        return replace(self, files=self.files.select(rows), labels=self.labels[rows])

    def divided(self, fraction: float, held_out: bool) -> "FileTable":
        """Return the part of the files that is held out from training, or the other part.

        The division depends on the names of the files, not on a seed or on their folder (for files of one
        name, on their paths in it), and holds out the same fraction of every class: at least one file, but
        never all of them.

        Raises:
            UserError: if every class has one file only.
        """
        if held_out and len(self.labels) == len(self.labels.unique()):
            raise UserError(
                "data.validation_fraction cannot hold out a file, since every class has one only: set it to 0"
            )
        return self.select(divided_rows(self.labels, fraction, held_out, self._division_key))

    def row_name(self, row: int) -> str:
        """Return the name of a file without its folder, or the number of its row if it has no name."""
        path = self.path(row)[0]
        return f"row {row}" if path is None else normal(Path(path).name)

    def row_path(self, row: int) -> str:
        """Return the path of a file relative to the folder, or the name of a row that has none."""
        path = self.path(row)[0]
        return self.row_name(row) if path is None else normal(relative_path(self, path))

    def _division_key(self, row: int) -> tuple[bytes, bytes]:
        names = (self.row_name(row), self.row_path(row))  # files of one name are divided by their paths
        name, path = (hashlib.blake2b(each.encode(errors="surrogateescape")).digest() for each in names)
        return name, path


def relative_path(table: FileTable, path: str) -> str:
    """Return a path relative to the table's folder; the name alone if it is not in that folder."""
    if table.folder is not None:
        for folder, file in (
            (os.path.abspath(table.folder), os.path.abspath(path)),
            (os.path.realpath(table.folder), os.path.realpath(path)),
        ):
            prefix = os.path.join(folder, "")
            if file.startswith(prefix):
                return file[len(prefix) :].replace(os.sep, "/")
    return os.path.basename(path)


def open_table(config: DataConfig, media: Media) -> FileTable:
    """Open the table that `config.source` names.

    Raises:
        UserError: if there is no such source, or if it holds no files of this type.
    """
    config.refuse("text_column", reason=f"a source of {media.modality}s")
    folder = source_folder(config.source)
    if folder is None or holds_tables(folder):
        if config.listed is not None:
            raise UserError(f"data.listed is only for folders of files; for {config.source}, set data.split")
        table = replace(_from_columns(load_rows(config), config, media), folder=folder)
        return _checked(table, media) if media.all_rows else table
    return _from_folder(config, media)


def source_folder(source: str) -> Path | None:
    """Return the folder that a source names; None for a name on the hub, which is not contacted.

    Raises:
        UserError: for a file, an empty folder, or a path that does not exist and cannot be a name on the hub.
    """
    folder = Path(source).expanduser()
    if folder.is_file():
        raise UserError(f"data.source {source} is a file; set it to a folder of images or a data set")
    if folder.is_dir():
        if not visible_entries(folder):
            raise UserError(f"data.source {source} is empty; it must hold one folder of images per class")
        return folder
    here_or_on_hub("data.source", source, "a data set")
    return None


def _from_folder(config: DataConfig, media: Media) -> FileTable:
    import datasets

    found = find_class_files(config)
    if not found.files:
        raise UserError(
            f"data.source {found.root} holds no file; it must hold one folder of {media.modality}s per class"
        )
    skipped = dict(found.left_out)
    readable: dict[str, list[str]] = {name: [] for name in found.classes}
    problems: dict[str, str] = {}  # the first of each class
    for name, path in ProgressBar(
        found.files, desc=f"checking {media.modality}s", unit="file", delay=2, leave=False
    ):
        try:
            media.check(str(path))
            readable[name].append(str(path))
        except Unreadable as fault:
            skipped[str(path)] = str(fault)
            problems.setdefault(name, f"{path}: {fault}")
    if not any(readable.values()):
        problem = next(iter(problems.values()))
        raise UserError(
            f"data.source {found.root} holds no readable {media.modality}; first problem: {problem}"
        )
    if found.classes != ("",):
        _check_classes(found, readable, problems, media)

    encoded = datasets.Features({"file": media.feature()})
    paths = [file for names in readable.values() for file in names]
    labels = [label for label, names in enumerate(readable.values()) for _ in names]
    table = datasets.Dataset.from_dict({"file": paths}, features=encoded)
    return FileTable(media.modality, table, torch.tensor(labels), tuple(readable), skipped, found.root)


def _check_classes(
    found: ClassFiles, readable: dict[str, list[str]], problems: dict[str, str], media: Media
) -> None:
    """Raise UserError if a class has no readable file; leaving it out would shift the labels after it."""
    unreadable = [name for name, paths in readable.items() if not paths]
    if unreadable or found.empty:
        names = ", ".join(sorted(unreadable + found.empty))
        first = f"; first problem: {problems[unreadable[0]]}" if unreadable else ""
        raise UserError(
            f"data.source {found.root} has classes without a readable {media.modality}: {names}{first}; "
            f"remove them, or convert their files to a format such as {media.formats}"
        )


def _from_columns(rows: "datasets.Dataset", config: DataConfig, media: Media) -> FileTable:
    import datasets

    column = _find_column(rows, type(media.feature()), "data.image_column", config.image_column)
    if column is None:
        raise UserError(f"no column fits: set data.image_column to one of {', '.join(rows.column_names)}")
    feature = rows.features[column]
    if not _may_hold(feature, media):
        raise UserError(f"data.image_column {column!r} must hold {media.modality}s, not {feature}")
    files = rows.select_columns([column]).cast_column(column, media.feature())
    if column != "file":
        files = files.rename_column(column, "file")

    column = None
    if config.label_column != "":
        column = _find_column(rows, datasets.ClassLabel, "data.label_column", config.label_column)
        if column is None:
            _refuse_unnamed_classes(rows, config.source)
    if column is None:
        return FileTable(media.modality, files, torch.zeros(len(rows), dtype=torch.long), NAMELESS)
    values: list[Any] = rows.with_format(None)[column][:]
    feature = rows.features[column]
    if isinstance(feature, datasets.ClassLabel):
        names, label_of = tuple(feature.names), {label: label for label in range(len(feature.names))}
    elif isinstance(feature, datasets.Value) and _is_plain(feature):
        present = {value for value in values if value is not None}
        distinct = class_order(present) if "string" in feature.dtype else sorted(present)
        names, label_of = tuple(map(str, distinct)), {value: label for label, value in enumerate(distinct)}
    else:
        raise UserError(f"data.label_column {column!r} must hold classes, not {feature}")
    labels = [label_of.get(value, -1) for value in values]
    if -1 in labels:
        row = labels.index(-1)
        raise UserError(
            f"data.label_column {column!r} holds {values[row]} in row {row}, which is not a class"
        )
    return FileTable(media.modality, files, torch.tensor(labels), names)


def _refuse_unnamed_classes(rows: "datasets.Dataset", source: str) -> None:
    """Raise UserError if a column appears to hold classes, although its type does not say so."""
    candidates = [
        name for name, feature in rows.features.items() if _is_plain(feature) and names_classes(name)
    ]
    if candidates:
        raise UserError(
            f"data.source {source} does not say which column holds its classes, perhaps "
            f"{' or '.join(candidates)}: set data.label_column to it, or to '' for no classes"
        )


def _is_plain(feature: Any) -> bool:
    """Return whether a column holds words or whole numbers."""
    return getattr(feature, "dtype", "").startswith(("int", "uint", "string", "large_string", "bool"))


def _checked(table: FileTable, media: Media) -> FileTable:
    """Return a table of the rows that pass the check; the others are added to `skipped`."""
    readable: list[int] = []
    rows = range(len(table.labels))
    for row in ProgressBar(rows, desc=f"checking {media.modality}s", unit="row", delay=2, leave=False):
        encoded = table.encoded(row)
        try:
            if not encoded:
                raise Unreadable(f"holds no {media.modality}")
            media.check(encoded)
            readable.append(row)
        except Unreadable as fault:
            table.skipped[encoded if isinstance(encoded, str) else f"row {row}"] = str(fault)
    if not readable:
        name, reason = next(iter(table.skipped.items()), ("data set", "has no rows"))
        raise UserError(f"data.source holds no readable {media.modality}; first problem: {name}: {reason}")
    return table.select(readable)


def _may_hold(feature: Any, media: Media) -> bool:
    """Return whether a column may hold images or videos, or the paths or bytes of their files."""
    import datasets

    if isinstance(feature, datasets.Value):
        return feature.dtype in ("string", "large_string", "binary", "large_binary")
    if isinstance(feature, dict):
        return bool(feature) and set(feature) <= {"bytes", "path"}
    return isinstance(feature, type(media.feature()))


def _find_column(rows: "datasets.Dataset", feature_type: type, option: str, chosen: str | None) -> str | None:
    """Return the named column, or the only column of this type; None if there is none."""
    if chosen is not None:
        if chosen not in rows.column_names:
            raise UserError(
                f"{option} {chosen!r} is not a column; the columns are: {', '.join(rows.column_names)}"
            )
        return chosen
    matches = [name for name, feature in rows.features.items() if isinstance(feature, feature_type)]
    if len(matches) > 1:
        raise UserError(f"several columns fit: set {option} to one of {', '.join(matches)}")
    return matches[0] if matches else None
