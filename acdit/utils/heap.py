"""The C library's heap, told to keep what is freed: every training step asks for the same memory again."""

import ctypes
import os
import platform
from functools import lru_cache
from pathlib import Path

OTHERS = ("jemalloc", "tcmalloc", "mimalloc")  # that may take malloc's place
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # parameters of glibc's mallopt
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc takes no larger one


_kept = False  # whether glibc was told


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Have glibc keep freed memory up to 32 MiB a piece, where it serves malloc and nobody set it otherwise.

    Memory that went back to the system comes anew a page at a time, and every page costs a fault.
    """
    global _kept
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if tuned or any(name.startswith("MALLOC_") for name in os.environ) or allocator() != _glibc():
        return
    mallopt = ctypes.CDLL(None).mallopt
    wanted = {
        _TRIM_THRESHOLD: 2**31 - 1,
        _TOP_PAD: 2 * _LARGEST_MMAP_THRESHOLD,
        _MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD,
    }
    _kept = all(mallopt(parameter, value) for parameter, value in wanted.items())


def keeps_freed_memory() -> bool:
    """Whether `keep_freed_memory` was called and had its way."""
    return _kept


def allocator() -> str:
    """Who serves malloc in this process."""
    maps = Path("/proc/self/maps")
    loaded = maps.read_text() if maps.exists() else ""
    found = [name for name in OTHERS if name in loaded]
    return found[0] if found else _glibc() or platform.system()


def _glibc() -> str:
    name, version = platform.libc_ver()
    return f"{name} {version}" if name == "glibc" else ""
