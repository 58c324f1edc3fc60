"""Errors that the user can fix: the command line shows them in one line and exits with code 2."""

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Literal

PACKAGE = Path(__file__).parents[1]
# Beginnings of sentences that tell the callers of a library how to call it.
ADVICE = re.compile(
    r"\b(?:Re-running|If you trust|If you want|You can now|use sys|"
    r"[Pp]lease (?:pass|file|report|make sure))"
)
LONGEST_REASON = 300  # characters of another library's message
LONGEST_WORD, LONGEST_LINE = 300, 1500  # characters of a message


class UserError(ValueError):
    """Invalid input; the message says in one line what is wrong and what is accepted."""


@contextmanager
def renamed_keys(names: Mapping[str, str]) -> Iterator[None]:
    """Replace keys of recipes in the messages of the UserErrors that are raised inside the context.

    Args:
        names: what the user has typed in place of each key, such as `--split` for `data.split`; an empty text
            for a key whose value says enough.
    """
    try:
        yield
    except UserError as fault:
        message = str(fault)
        for key, name in names.items():
            message = re.sub(rf"\b{re.escape(key)}\b" if name else rf"\b{re.escape(key)} ", name, message)
        fault.args = (message, *fault.args[1:])
        raise


def in_words(words: Iterable[str], conjunction: Literal["and", "or"]) -> str:
    """Return words as a part of a sentence: `a`, `a or b`, `a, b or c`."""
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module, or raise UserError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise UserError(f"{missing.name} is not installed: pip install 'acdit[{extra}]'") from missing


def raised_here(error: BaseException) -> bool:
    """Return whether this package raised an error itself, and not a library that it called."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(PACKAGE)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the memory of the machine or of a GPU was not enough; torch says so in words."""
    words = str(error)
    return isinstance(error, MemoryError) or "allocate memory" in words or "out of memory" in words


def reason_of(error: BaseException) -> str:
    """Return the reason of another library's error in one short line, without its advice to its callers."""
    if isinstance(error, RecursionError):
        return "its values are nested too deeply"
    if is_out_of_memory(error):
        return "it does not fit into memory"
    text = " ".join(_words_of(error).split())
    text = ADVICE.split(text)[0].strip()
    if isinstance(error, KeyError):
        return f"it lacks {text}" if text else "a key is missing"
    if not isinstance(error, ValueError | OSError | RuntimeError):
        text = f"{type(error).__name__}: {text}"
    if len(text) > LONGEST_REASON:
        text = text[:LONGEST_REASON].rsplit(" ", 1)[0] + " ..."
    return text.rstrip(".:; ") or type(error).__name__


def line_of(error: BaseException) -> str:
    """Return the message of an error in one line that a terminal can show, shortened if it is very long."""
    words = [_shortened(word, LONGEST_WORD) for word in _words_of(error).split()]
    printable = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in " ".join(words)
    )
    return _shortened(printable, LONGEST_LINE)


def _words_of(error: BaseException) -> str:
    """Return the text of an error; of one of the operating system, its files and its reason in words."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([", ".join(names), error.strerror] if names else [error.strerror])


def _shortened(text: str, longest: int) -> str:
    """Return a text without its middle if it is too long; the advice of a message is at its end."""
    if len(text) <= longest:
        return text
    return f"{text[: longest // 2]}[...]{text[-longest // 3 :]}"
