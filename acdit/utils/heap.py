"""Configure the C library's heap to keep freed memory, which every training step allocates again."""

import ctypes
import os
import platform
from functools import lru_cache
from pathlib import Path

OTHER_ALLOCATORS = ("jemalloc", "tcmalloc", "mimalloc")  # allocators that may replace malloc
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # parameters of glibc's mallopt
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc accepts no larger value


_kept = False  # whether glibc has accepted the settings


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Make glibc keep freed pieces of memory of up to 32 MiB.

    Nothing is changed if glibc does not serve malloc, or if the environment sets parameters of malloc. Memory
    that was returned to the system is mapped again one page at a time, and every page costs a page fault.
    """
    global _kept
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if tuned or any(name.startswith("MALLOC_") for name in os.environ) or allocator() != _glibc():
        return
    mallopt = ctypes.CDLL(None).mallopt
    settings = {
        _TRIM_THRESHOLD: 2**31 - 1,
        _TOP_PAD: 2 * _LARGEST_MMAP_THRESHOLD,
        _MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD,
    }
    _kept = all(mallopt(parameter, value) for parameter, value in settings.items())


def keeps_freed_memory() -> bool:
    """Return whether `keep_freed_memory` was called and took effect."""
    return _kept


def allocator() -> str:
    """Return the name of the allocator that serves malloc in this process."""
    maps = Path("/proc/self/maps")
    loaded = maps.read_text() if maps.exists() else ""
    names = [name for name in OTHER_ALLOCATORS if name in loaded]
    return names[0] if names else _glibc() or platform.system()


def _glibc() -> str:
    name, version = platform.libc_ver()
    return f"{name} {version}" if name == "glibc" else ""
