"""Checks of user input, shared by commands and recipes. This module does not import torch."""

from pathlib import Path

from .errors import UserError

FILES = (".txt", ".md", ".csv", ".json", ".jsonl", ".parquet")  # no name on the hub ends in these


def at_least(least: float, **values: float | None) -> None:
    """Raise UserError if a value is below `least`; None is not checked.

    In the name of a value, `__` stands for a dot.
    """
    for name, value in values.items():
        if value is not None and value < least:
            raise UserError(f"{name.replace('__', '.')} must be at least {least:g}, not {value}")


def option_at_least(least: float, **values: float | None) -> None:
    """Raise UserError if an option's value is below `least`; the name `keep_blocks` means --keep-blocks."""
    at_least(least, **{f"--{name.replace('_', '-')}": value for name, value in values.items()})


def option_suffix(*suffixes: str, **paths: str | None) -> None:
    """Raise UserError if an option names a file with a suffix not in `suffixes`; None is not checked."""
    for name, path in paths.items():
        if path is not None and Path(path).suffix.lower() not in suffixes:
            raise UserError(f"--{name} must be a {' or '.join(suffixes)} file, not {path!r}")


def here_or_on_hub(said: str, name: str, kind: str) -> None:
    """Raise UserError if a name does not exist locally and cannot be a name on the hub.

    The check avoids a slow request to the hub that would fail.

    Args:
        said: Name of the value in the message, such as the option that was given.
        name: Path, or name on the hub.
        kind: Description of the object that is named, with its article.
    """
    if Path(name).expanduser().exists():
        return
    if name[0] in (".", "~", "/") or name.count("/") > 1 or name.lower().endswith(FILES):
        raise UserError(
            f"{said} {name} does not exist, and cannot be the name of {kind} on the hub; "
            "give an existing path or a name on the hub"
        )
