"""Memory and disk: refusals, with an estimate, of what cannot fit. Free of torch."""

import shutil
from pathlib import Path

import psutil

from .errors import UserError


def free_disk(path: Path) -> int:
    """Return the bytes that are free where a path lies, or will lie."""
    place = path.absolute()
    return shutil.disk_usage(next(part for part in (place, *place.parents) if part.exists())).free


def require_disk(wanted: float, path: Path, subject: str, remedy: str) -> None:
    """Raise UserError unless so many bytes fit on the disk of a path.

    Args:
        wanted: bytes, an estimate.
        path: to be written.
        subject: what takes them, such as "1,000 images of 64x64 pixels".
        remedy: what would fit, such as "lower --count".
    """
    free = free_disk(path)
    if wanted > free:
        raise UserError(f"{subject} take about {size(wanted)} at {path}, {size(free)} are free: {remedy}")


def require_memory(wanted: float, subject: str, remedy: str) -> None:
    """Raise UserError unless so many bytes fit into the memory that is free; arguments as `require_disk`."""
    free = psutil.virtual_memory().available
    if wanted > free:
        raise UserError(f"{subject} take about {size(wanted)} of memory, {size(free)} are free: {remedy}")


def size(count: float) -> str:
    """Return a number of bytes in words, such as 1.5 GB."""
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 1000 or unit == "TB":
            break
    return f"{count:,.0f} {unit}" if count >= 1000 else f"{count:.3g} {unit}"
