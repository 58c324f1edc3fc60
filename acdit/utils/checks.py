"""Checks of user input, shared by commands and recipes. This module does not import torch."""

from numbers import Integral
from pathlib import Path
from typing import TypeGuard

from .errors import UserError

# no name on the hub ends in these
FILES = (".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether a value is an integer of Python or NumPy; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def at_least(minimum: float, **values: float | None) -> None:
    """Raise UserError if a value is below `minimum`; None is not checked.

    In the name of a value, `__` stands for a dot.
    """
    for name, value in values.items():
        if value is not None and value < minimum:
            raise UserError(f"{name.replace('__', '.')} must be at least {minimum:g}, not {value}")


def option_at_least(minimum: float, **values: float | None) -> None:
    """Raise UserError if an option's value is below `minimum`; the name `keep_blocks` means --keep-blocks."""
    at_least(minimum, **{f"--{name.replace('_', '-')}": value for name, value in values.items()})


def option_suffix(*suffixes: str, **paths: str | None) -> None:
    """Raise UserError if an option names a file with a suffix not in `suffixes`; None is not checked."""
    for name, path in paths.items():
        if path is not None and Path(path).suffix.lower() not in suffixes:
            raise UserError(f"--{name} must be a {' or '.join(suffixes)} file, not {path!r}")


def here_or_on_hub(label: str, name: str, description: str) -> None:
    """Raise UserError if a name does not exist locally and cannot be a name on the hub.

    The check avoids a slow request to the hub that would fail.

    Args:
        label: Name of the value in the message, such as the option that was given.
        name: Path, or name on the hub.
        description: Description of the object that is named, with its article.
    """
    if name and exists(Path(name).expanduser()):
        return
    path_like = not name or not name.isprintable() or name[0] in (".", "~", "/") or name.count("/") > 1
    if path_like or name.lower().endswith(FILES):
        raise UserError(
            f"{label} {name} does not exist, and cannot be the name of {description} on the hub; "
            "give an existing path or a name on the hub"
        )


def exists(path: Path) -> bool:
    """Return whether a path exists; also for text that no path can be, such as one that is too long."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
