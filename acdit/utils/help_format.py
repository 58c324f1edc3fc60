"""Format the help of commands for the width of the terminal."""

import argparse
import inspect
import shutil
from functools import partial
from textwrap import fill, wrap

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
