"""Find files and their classes in a folder: sub-folders of splits and classes, a list, or metadata."""

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..utils.errors import UserError
from .config import DataConfig
from .folders import file_inside, scan_folder, scan_top
from .text_decoding import decode_text

# Suffixes of files that accompany a data set. A folder of such files only is not a class; a folder of any
# other files is, so that a class in a format that cannot be read is not lost.
DOCUMENTS = frozenset(
    (
        *(".csv", ".doc", ".docx", ".htm", ".html", ".ini", ".json", ".jsonl", ".log", ".md", ".odt", ".pdf"),
        *(".py", ".rst", ".rtf", ".sh", ".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml"),
    )
)


@dataclass
class ClassFiles:
    """Files of a folder with their classes; none of them has been read."""

    root: Path
    """Folder that holds the classes."""
    files: list[tuple[str, Path]]
    """Class and path of each file, class by class; the class is "" in a folder without classes."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Entries that are not data, with the reasons."""
    empty: list[str] = field(default_factory=list)
    """Names of sub-folders without files."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes that have files, in the order of their labels."""
        return tuple(dict.fromkeys(name for name, _ in self.files))


def find_class_files(config: DataConfig) -> ClassFiles:
    """Find the files of the folder that `config.source` names, and their classes.

    Every sub-folder is a class, except folders of documents only; without sub-folders, the files have no
    classes. With `config.listed`, the classes are those of the list.

    Raises:
        UserError: if a folder or a list cannot be read.
    """
    root = Path(config.source).expanduser()
    if config.listed is not None:
        return ClassFiles(root, _listed(root, Path(config.listed).expanduser()))
    folders, (loose, left_out) = scan_top(root)
    files: list[tuple[str, Path]] = []
    empty = []
    for folder in folders:
        inside, beside = scan_folder(folder, root)
        left_out |= beside
        if not inside:
            empty.append(folder.name)
        elif all(map(is_document, inside)):
            left_out |= {str(path): "is a document, in a folder of documents only" for path in inside}
        else:
            files += [(folder.name, path) for path in inside]
    if files:
        left_out |= {str(path): "is not in a class folder" for path in loose}
    else:
        files = [("", path) for path in loose]
    return ClassFiles(root, files, left_out, empty)


def is_document(path: Path) -> bool:
    """Return whether a file accompanies a data set, judged by its suffix."""
    return path.suffix.lower() in DOCUMENTS


def _listed(folder: Path, listing: Path) -> list[tuple[str, Path]]:
    """Return class and path of every file in a list such as UCF-101's trainlist01.txt.

    Each line holds CLASS/FILE, optionally followed by a number.
    """
    try:
        text = decode_text(listing.read_bytes(), f"data.listed {listing}")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
    except OSError as fault:
        raise UserError(f"data.listed {listing} cannot be read: {fault}") from fault
    files = []
    for line in lines:
        names = [line, re.sub(r"\s+\d+$", "", line)]  # a name may end in a number too
        name = next((name for name in names if "/" in name and file_inside(folder, name)), None)
        if name is None:
            raise UserError(
                f"data.listed {listing} lists {names[1]!r}, which is not a file CLASS/FILE in {folder}"
            )
        files.append(PurePosixPath(name))
    return [(name.parts[0], folder / name) for name in sorted(files, key=str)]
