"""What glibc's malloc is told, in processes of their own."""

import os
import subprocess
import sys

import pytest

SOURCE = """
from acdit.utils import heap

before = heap.keeps_freed_memory()
heap.keep_freed_memory()
print(before, heap.keeps_freed_memory(), heap.allocator())
"""
SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


@pytest.mark.parametrize(
    ("setting", "kept"),
    [
        ({}, True),
        ({"MALLOC_ARENA_MAX": "2"}, False),
        ({"GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}, False),
        ({"GLIBC_TUNABLES": "glibc.pthread.rseq=1"}, True),
    ],
    ids=str,
)
def test_freed_memory_is_kept_when_asked_to_and_nobody_set_it_otherwise(setting, kept):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
    printed = subprocess.check_output([sys.executable, "-c", SOURCE], env=clean | setting, text=True)
    before, after, allocator = printed.split(maxsplit=2)
    assert before == "False" and after == str(kept and allocator.startswith("glibc"))
