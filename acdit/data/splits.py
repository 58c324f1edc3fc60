"""Find the folder of a split, and the split and configuration of held-out data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..utils.errors import UserError
from .config import DataConfig
from .data_sets import built_in
from .folders import SAVED, holds_tables, scan_folder, scan_top

# Names of split folders, as in the image folders of Hugging Face's datasets.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
# Suffixes of files that accompany images and videos. A folder of such files only is not a class; a folder of
# any other files is, so that a class in a format that cannot be read is not lost.
DOCUMENTS = frozenset(
    (
        *(".csv", ".doc", ".docx", ".htm", ".html", ".ini", ".json", ".jsonl", ".log", ".md", ".odt", ".pdf"),
        *(".py", ".rst", ".rtf", ".sh", ".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml"),
    )
)


def is_picture(path: Path) -> bool:
    """Return whether a file may be an image or a video, and is no document."""
    return path.suffix.lower() not in DOCUMENTS


def is_text(path: Path) -> bool:
    """Return whether a file is not one that accompanies texts."""
    return path.stem.upper() not in ("README", "LICENSE")


def split_folder(config: DataConfig, *, texts: bool) -> Path:
    """Return the folder of `config.split`: the source itself unless all its sub-folders are splits.

    Args:
        config: configuration of the data, whose source is a folder of files.
        texts: whether the data are texts; see `held_out_split`.

    Raises:
        UserError: if there is no folder of the split.
    """
    folder, split = Path(config.source).expanduser(), config.split
    splits = _split_folders(folder, texts)
    if not splits:
        config.refuse("split", reason="a folder without split folders such as train and validation")
        return folder
    matches = splits.get(SPLIT_OF.get(split.lower(), split), [])
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = " and ".join(path.name for path in matches)
        raise UserError(f"data.split {split!r} of {folder} is ambiguous: join its folders {names}")
    raise UserError(
        f"data.split of {folder} must be one of {', '.join(splits)}, the splits of its folders, not {split!r}"
    )


def held_out_split(source: str, *, texts: bool) -> str:
    """Return the split of a source to evaluate on: `validation`, or `train` if the source has no splits.

    Args:
        source: data source.
        texts: whether the data are texts, which may also lie beside sub-folders, so that these are no splits.
    """
    folder = Path(source).expanduser()
    if source in built_in() or folder.is_file():
        return "train"
    if not folder.is_dir():
        return "validation"  # a name on the hub
    if holds_tables(folder):
        return "train" if (folder / SAVED[0]).exists() else "validation"
    return "validation" if _split_folders(folder, texts) else "train"


def held_out_config(
    config: DataConfig, source: str | None, split: str | None, listed: str | None
) -> DataConfig:
    """Return the configuration of held-out data; what is None is that of the training data.

    All its labels are used, whatever `labels_per_class` says about the training data. Another source has a
    list of its own, or none, and the split that is held out in it. Keys of the training
    data that have no effect on it, such as columns on a folder of files, are left out.
    """
    changes: dict[str, Any] = {
        "flip": False,
        "listed": listed or config.listed,
        "split": split or config.split,
        "labels_per_class": None,
    }
    if source is not None:
        changes["source"] = source
        changes["listed"] = listed
        changes["split"] = split or held_out_split(source, texts=config.tokens is not None)
        if _holds_files(source) != _holds_files(config.source):
            changes |= dict.fromkeys(("image_column", "text_column", "label_column"))
        if source in built_in():
            changes |= dict.fromkeys(("max_pixels", "label_column"))
    return replace(config, **changes)


def _holds_files(source: str) -> bool:
    """Return whether a source consists of files rather than of the rows of a data set."""
    path = Path(source).expanduser()
    return source in built_in() or path.is_file() or (path.is_dir() and not holds_tables(path))


def _split_folders(folder: Path, texts: bool) -> dict[str, list[Path]]:
    """Return the folders of each split; nothing if other folders, or texts beside them, hold data too."""
    is_data = is_text if texts else is_picture
    splits: dict[str, list[Path]] = {}
    others: list[Path] = []
    folders, (files, _) = scan_top(folder)
    for child in folders:
        split = SPLIT_OF.get(child.name.lower())
        if split is None:
            others.append(child)
        else:
            splits.setdefault(split, []).append(child)
    if texts and any(map(is_data, files)):
        return {}
    if splits and any(is_data(path) for child in others for path in scan_folder(child, folder).files):
        return {}  # classes, of which one is called train, for example
    return splits
