"""Checks of what was given, alike for commands and recipes. Free of torch."""

from pathlib import Path

from .errors import UserError


def at_least(least: float, **values: float | None) -> None:
    """Raise UserError for a value below the least; None is left out. A name's `__` stands for a dot."""
    for name, value in values.items():
        if value is not None and value < least:
            raise UserError(f"{name.replace('__', '.')} must be at least {least:g}, not {value}")


def option_at_least(least: float, **values: float | None) -> None:
    """The same for options, named as they are typed: `keep_blocks` is --keep-blocks."""
    at_least(least, **{f"--{name.replace('_', '-')}": value for name, value in values.items()})


def option_suffix(*suffixes: str, **paths: str | None) -> None:
    """Raise UserError for an option that names a file with another suffix than these; None is left out."""
    for name, path in paths.items():
        if path is not None and Path(path).suffix.lower() not in suffixes:
            raise UserError(f"--{name} must be a {' or '.join(suffixes)} file, not {path!r}")
