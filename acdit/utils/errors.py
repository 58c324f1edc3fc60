"""Errors that the user can fix: the command line shows them in one line and exits with code 2."""

import importlib
from types import ModuleType


class UserError(ValueError):
    """Invalid input; the message says in one line what is wrong and what is accepted."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module, or raise UserError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise UserError(f"{missing.name} is not installed: pip install 'acdit[{extra}]'") from missing
