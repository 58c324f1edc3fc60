"""Help of commands, formatted for the width of the terminal."""

import argparse
import inspect
import shutil
from functools import partial
from operator import attrgetter
from textwrap import fill, wrap
from typing import TYPE_CHECKING, Any

from .settings import as_text, fields_of, spelled

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

WIDEST = 100
NARROWEST = 60


def help_width() -> int:
    """Return the width of help texts: that of the terminal, but 60 to 100; 100 without a terminal."""
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns))


def wrapped(text: str, indent: str = "") -> str:
    """Wrap a text to the width of help texts, without breaks at hyphens, which belong to names of options.

    Args:
        text: the text, a single paragraph.
        indent: text before every line but the first.
    """
    return fill(text, help_width(), subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def description_of(cls: type) -> str:
    """Return the docstring of a class as paragraphs of a help text."""
    paragraphs = inspect.cleandoc(cls.__doc__ or "").split("\n\n")
    return "\n\n".join(wrapped(" ".join(paragraph.split())) for paragraph in paragraphs)


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Formatter of argparse that does not break lines at hyphens."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)


def help_formatter() -> "partial[HelpFormatter]":
    """Return the class of formatters for the terminal as it is now."""
    width = help_width()
    return partial(HelpFormatter, max_help_position=36 if width >= 90 else 30, width=width)


def help_text(cls: type, command: str, example: str, defaults: object = None) -> str:
    """Return the help of a command whose options are the fields of `cls`.

    If `defaults` is given, the help shows the values of this instance as defaults.
    """
    about = {"usage": f"{command} [--key value ...]", "epilog": f"example:\n  {example}"}
    return _parser(cls, defaults, **about).format_help()


def _parser(cls: type, defaults: object = None, **about: Any) -> "ArgumentParser":
    from jsonargparse import ArgumentParser

    about |= {"description": description_of(cls), "formatter_class": help_formatter()}
    parser = ArgumentParser(exit_on_error=False, **about)
    groups: dict[str, Any] = {"": parser}
    for key, field in fields_of(cls).items():
        section, _, name = key.rpartition(".")
        if section not in groups:
            groups[section] = parser.add_argument_group(section)
        default = field.default if defaults is None else attrgetter(key)(defaults)
        note = "" if default in (None, "", [], ()) or default is False else f" (default: {as_text(default)})"
        action = groups[section].add_argument(
            f"--{spelled(key)}",
            type=field.hint,
            default=default,
            metavar=field.metavar(name),
            help=(field.help + note).replace("%", "%%"),
        )
        # leave --key+ out of the help: the option of a sequence may simply be given several times
        del action.option_strings[1:]
    return parser
