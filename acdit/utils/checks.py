"""Checks of what was given, alike for commands and recipes. Free of torch."""

from pathlib import Path

from .errors import UserError

FILES = (".txt", ".md", ".csv", ".json", ".jsonl", ".parquet")  # nothing on the hub is named so


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


def here_or_on_hub(said: str, name: str, kind: str) -> None:
    """Raise UserError for what is not here and cannot be on the hub, which would take long to say so.

    Args:
        said: what to call it in the message, such as the option that named it.
        name: a path, or a name on the hub.
        kind: of thing, with its article.
    """
    if Path(name).expanduser().exists():
        return
    if name[0] in (".", "~", "/") or name.count("/") > 1 or name.lower().endswith(FILES):
        raise UserError(
            f"{said} {name} does not exist, and cannot be the name of {kind} on the hub; "
            "give a path that exists, or such a name"
        )
