"""Find files and their classes in a folder, by sub-folders of splits and classes, a list, or metadata."""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ..utils.errors import UserError
from ..utils.names import class_order
from ..utils.untrusted import read_bytes
from .config import DataConfig
from .folders import file_inside, scan_folder, scan_top
from .metadata import METADATA, read_metadata
from .splits import is_picture, split_folder
from .text_decoding import decode_text


@dataclass
class ClassFiles:
    """Files of a folder with their classes; none of them has been read."""

    root: Path
    """Folder that holds the classes, such as the folder of the split."""
    files: list[tuple[str, Path]]
    """Class and path of each file; the class is "" in a folder without classes."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Entries that are not data, with the reasons."""
    empty: list[str] = field(default_factory=list)
    """Names of sub-folders without files."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes that have files, in the order of their labels."""
        return tuple(class_order({name for name, _ in self.files}))


def find_class_files(config: DataConfig) -> ClassFiles:
    """Find the files of the folder that `config.source` names, and their classes.

    If all sub-folders are splits, such as train and validation, the rest applies to the folder of the split.
    Every sub-folder is a class, except folders of documents only; without sub-folders, the files have no
    classes. With `config.listed`, the classes are those of the list, and with metadata.jsonl or metadata.csv,
    those of its column of classes if it has one.

    Raises:
        UserError: if a folder, a list or metadata cannot be read, or if a key of the configuration has no
            effect on the folder.
    """
    config.refuse("image_column", reason="a folder of files")
    source = Path(config.source).expanduser()
    root = split_folder(config, texts=False)
    if root != source:
        _check_beside(source, root)
    metadata = [path for path in scan_top(root)[1].files if path.name in METADATA]
    if (root / "metadata.parquet").exists():
        raise UserError(f"{root / 'metadata.parquet'} is not read: convert it to metadata.jsonl")
    if len(metadata) > 1:
        raise UserError(f"{root} holds both {' and '.join(METADATA)}: remove one")
    if config.listed is not None:
        found = ClassFiles(root, _listed(root, Path(config.listed).expanduser()))
    elif metadata:
        found = _by_metadata(root, metadata[0], config.label_column)
    else:
        found = _by_folders(root)
    if config.label_column == "":
        return replace(found, files=[("", path) for _, path in found.files], empty=[])
    if config.listed is not None or not metadata:
        config.refuse("label_column", reason=f"a folder whose classes are not those of {METADATA[0]}")
    return found


def _by_folders(root: Path) -> ClassFiles:
    """Find files whose classes are the sub-folders of a folder."""
    folders, (loose, left_out) = scan_top(root)
    files: list[tuple[str, Path]] = []
    empty = []
    for folder in folders:
        inside, beside = scan_folder(folder, root)
        for path in inside:
            if path.name in METADATA:
                raise UserError(
                    f"{path} is not read: {path.name} must be in {root}, and name files from there"
                )
        left_out |= beside
        if not inside:
            empty.append(folder.name)
        elif not any(map(is_picture, inside)):
            left_out |= {str(path): "is a document, in a folder of documents only" for path in inside}
        else:
            files += [(folder.name, path) for path in inside]
    if files:
        left_out |= {str(path): "is not in a class folder" for path in loose}
    else:
        files = [("", path) for path in loose]
    return ClassFiles(root, files, left_out, empty)


def _check_beside(source: Path, root: Path) -> None:
    """Raise UserError if files lie beside the folders of splits, which belong to none."""
    for path in scan_top(source)[1].files:
        if path.name in METADATA or is_picture(path):
            raise UserError(
                f"{path} is beside the split folders such as {root.name}: move it into one of them"
            )


def _by_metadata(root: Path, path: Path, label_column: str | None) -> ClassFiles:
    """Find files that metadata name, with the classes of a column, or else of the sub-folders."""
    inside, left_out = scan_folder(root)
    labels = read_metadata(path, set(inside), label_column)
    for file in inside:
        if file.name in METADATA and file != path:
            raise UserError(f"{file} is not read: {root} already holds {path.name}; join the two")
        if file != path and file not in labels:
            left_out[str(file)] = f"is not named in {path.name}"
    folders = {file: file.relative_to(root).parts[0] for file in labels if file.parent != root}
    if None not in labels.values():
        return ClassFiles(root, [(str(labels[file]), file) for file in sorted(labels)], left_out)
    if len(folders) == len(labels):
        return ClassFiles(root, [(folders[file], file) for file in sorted(labels)], left_out)
    return ClassFiles(root, [("", file) for file in sorted(labels)], left_out)


def _listed(folder: Path, listing: Path) -> list[tuple[str, Path]]:
    """Return class and path of every file in a list such as UCF-101's trainlist01.txt.

    Each line holds CLASS/FILE, optionally followed by a number.
    """
    try:
        content = read_bytes(listing)  # a pipe or a device might never end
    except UserError as fault:
        raise UserError(f"data.listed cannot be read: {fault}") from fault
    text = decode_text(content, f"data.listed {listing}")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    files = []
    for line in lines:
        names = [line, re.sub(r"\s+\d+$", "", line)]  # a name may end in a number too
        name = next((name for name in names if "/" in name and file_inside(folder, name)), None)
        if name is None:
            raise UserError(
                f"data.listed {listing} lists {names[1]!r}, which is not a file CLASS/FILE in {folder}"
            )
        files.append(PurePosixPath(name))
    twice = next((name for name, count in Counter(files).items() if count > 1), None)
    if twice is not None:  # its copies could be divided into training and held-out files
        raise UserError(f"data.listed {listing} lists {str(twice)!r} twice: list it once")
    return [(name.parts[0], folder / name) for name in sorted(files, key=str)]
