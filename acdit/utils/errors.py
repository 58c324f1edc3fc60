"""Mistakes that the user can mend: the command line shows them as one line and exits with code 2."""

import importlib
from types import ModuleType


class UserError(ValueError):
    """Bad input; the message says in one line what was wrong and what would do."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module, or raise a UserError with the line that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise UserError(f"{missing.name} is not installed: pip install 'acdit[{extra}]'") from missing
