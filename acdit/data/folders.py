"""Scan folders of data by one rule: visible regular files at every depth, each folder read once."""

import os
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..utils.errors import UserError

SAVED = ("state.json", "dataset_dict.json")  # files that datasets' save_to_disk writes
# Files that accompany Parquet files, by name and by stem.
BESIDE_TABLES = ("dataset_info.json", "dataset_infos.json", "README", "LICENSE")


class Scan(NamedTuple):
    """Files of a folder."""

    files: list[Path]
    """Visible regular files at every depth, sorted by their paths."""
    left_out: dict[str, str]
    """Visible entries that are neither files nor folders to read, with the reasons."""


def visible_entries(folder: Path) -> list[Path]:
    """Return the files and folders directly in a folder whose names do not start with a dot, sorted.

    Raises:
        UserError: if the folder cannot be read, or a name in it is not UTF-8.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if name[0] != ".")
    except OSError as fault:
        raise UserError(f"folder {folder} cannot be read: {fault.strerror}; make it readable") from fault
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as fault:  # neither a table of paths nor a JSON file can hold such a name
            raise UserError(
                f"{folder} holds {os.fsencode(name)}, whose name is not UTF-8: rename it"
            ) from fault
    return [folder / name for name in names]


def scan_folder(folder: Path, root: Path | None = None) -> Scan:
    """Return the files in a folder at any depth.

    Names that start with a dot are left out at every depth. Links to files and folders are followed, but no
    folder is read twice: its own path comes before links to it, and a link to a folder that contains `root`
    is left out, so that there are no loops. Whatever is no regular file, such as a pipe, is left out.

    Args:
        folder: folder to scan.
        root: folder that the scanned one belongs to; default: the scanned folder itself.

    Raises:
        UserError: if a folder cannot be read, or a name is not UTF-8.
    """
    above = folder.resolve().parents if root is None else (root, *root.resolve().parents)
    read = {_identity(parent) for parent in above}
    files: list[Path] = []
    left_out: dict[str, str] = {}
    folders: list[Path] = [folder]
    links: list[Path] = []
    while folders or links:
        links.sort()
        current = folders.pop() if folders else links.pop(0)
        if _identity(current) in read:
            left_out[str(current)] = "is a folder that is read already, or that contains this one"
            continue
        read.add(_identity(current))
        for path in visible_entries(current):
            if path.is_dir():
                (links if path.is_symlink() else folders).append(path)
            elif path.is_file():
                files.append(path)
            else:
                left_out[str(path)] = _not_a_file(path)
    return Scan(sorted(files), left_out)


def scan_top(folder: Path) -> tuple[list[Path], Scan]:
    """Return the folders directly in a folder, and the files directly in it; see `scan_folder`.

    A link to a folder that contains this one is left out.
    """
    above = {_identity(path) for path in (folder, *folder.resolve().parents)}
    folders, files = [], []
    left_out: dict[str, str] = {}
    for path in visible_entries(folder):
        if path.is_dir() and _identity(path) in above:
            left_out[str(path)] = "is a link to a folder that contains it"
        elif path.is_dir():
            folders.append(path)
        elif path.is_file():
            files.append(path)
        else:
            left_out[str(path)] = _not_a_file(path)
    return folders, Scan(files, left_out)


def holds_tables(folder: Path) -> bool:
    """Return whether a folder holds the files of a data set, not a folder of images for each class.

    Raises:
        UserError: if files that `datasets` would leave out without a word lie beside the Parquet files.
    """
    top = visible_entries(folder)
    if any(path.name in SAVED for path in top):
        return True
    inner = (path for child in top if child.is_dir() for path in visible_entries(child))
    table = next(
        (path for path in chain(top, inner) if path.suffix == ".parquet" and path.stem != "metadata"), None
    )
    if table is None:
        return False
    other = next((path for path in scan_folder(folder).files if not _is_of_tables(path)), None)
    if other is not None:
        raise UserError(
            f"{folder} is a data set of Parquet files, for it holds {table.relative_to(folder)}, and "
            f"{other.relative_to(folder)} would not be read: move one of the two kinds to another folder"
        )
    return True


def _is_of_tables(path: Path) -> bool:
    """Return whether a file is a Parquet file, or accompanies such files, such as the card of a data set."""
    is_beside = path.name in BESIDE_TABLES or path.stem.upper() in BESIDE_TABLES
    return is_beside or path.suffix in (".parquet", ".py")  # a script that loads the data set


def file_inside(folder: Path, name: str) -> Path | None:
    """Return the file that a list names relative to a folder; None if there is no such file in the folder.

    Absolute paths, `..`, hidden parts and links that lead out of the folder do not count.
    """
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or any(part.startswith((".", "/")) for part in parts):
        return None
    path = folder / name
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        return None
    return path


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _not_a_file(path: Path) -> str:
    return "is a link that leads to no file" if path.is_symlink() else "is not a regular file"
