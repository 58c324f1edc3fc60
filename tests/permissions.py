"""Places that cannot be written to, also where the tests run as root."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NOBODY = 65534


@contextmanager
def protected_places() -> Iterator[Path]:
    """A place for all with a `file` and a `folder`, neither of which can be written to, but by root."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o777)
        (place / "file").write_text("x")
        (place / "file").chmod(0o444)
        (place / "folder").mkdir(mode=0o555)
        yield place


def as_nobody(call: Callable[[], Any]) -> Any:
    """What a call returns in a process without root's rights, of which permissions would mean nothing."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def child() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        answers.put(call())

    process = context.Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    return answers.get()
