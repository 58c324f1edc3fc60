"""Checks that estimated memory and disk space are available.

This module does not import torch.
"""

import shutil
from pathlib import Path

import psutil

from .errors import UserError


def free_disk(path: Path) -> int:
    """Return the number of free bytes on the disk of a path, which need not exist yet."""
    absolute = path.absolute()
    return shutil.disk_usage(next(part for part in (absolute, *absolute.parents) if part.exists())).free


def free_memory() -> int:
    """Return the number of bytes of memory that are free for new data."""
    return psutil.virtual_memory().available


def require_disk(required: float, path: Path, subject: str, remedy: str) -> None:
    """Raise UserError if the disk of a path has less free space than `required`.

    Args:
        required: Estimated number of bytes.
        path: Path to be written.
        subject: Description of the data that take the space, such as "1,000 images of 64x64 pixels".
        remedy: Advice to the user, such as "lower --count".
    """
    free = free_disk(path)
    if required > free:
        raise UserError(
            f"{subject} need about {size(required)} at {path}, but {size(free)} are free: {remedy}"
        )


def require_memory(required: float, subject: str, remedy: str) -> None:
    """Raise UserError if less memory is free than `required`; the arguments are those of `require_disk`."""
    free = free_memory()
    if required > free:
        raise UserError(
            f"{subject} need about {size(required)} of memory, but {size(free)} are free: {remedy}"
        )


def size(count: float) -> str:
    """Format a number of bytes with its unit, such as 1.5 GB."""
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 1000 or unit == "TB":
            break
    return f"{count:,.0f} {unit}" if count >= 1000 else f"{count:.3g} {unit}"
