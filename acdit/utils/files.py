"""Files and folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from .errors import UserError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place beside `path` to write a file or folder; it takes its name, synced, when all went well.

    Whoever the umask lets read new files may read it: safetensors keeps its own from all but the owner.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    remove(aside)
    try:
        yield aside
        umask = os.umask(0)
        os.umask(umask)  # there is no other way to ask for it
        for file in sorted(aside.rglob("*")) if aside.is_dir() else [aside]:
            if file.is_file():
                file.chmod(0o666 & ~umask)
            _sync(file)
        _sync(aside)
        if path.is_dir() and not aside.is_dir():
            raise IsADirectoryError(f"{path} is a folder and is not replaced by a file")
        if path.is_dir():
            # A folder cannot be replaced in one step: the old one moves out of the way first.
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(old)
            aside.rename(path)
            remove(old)
        else:
            aside.replace(path)
        _sync(path.parent)
    except SafetensorError as fault:  # what it makes of a full disk
        raise OSError(f"{path} cannot be written: {fault}") from fault
    finally:
        remove(aside)


def leftovers(path: Path) -> list[Path]:
    """What killed processes left of `path`, whose name may hold wildcards: halves, and what was replaced.

    Where one died between moving the old folder away and the new one in, the old one takes its name again.
    """
    for old in path.parent.glob(f".{path.name}.[0-9]*.old"):
        name = path.with_name(old.name[1:].rsplit(".", 2)[0])
        if not name.exists():
            old.rename(name)
    return [left for end in ("partial", "old") for left in path.parent.glob(f".{path.name}.[0-9]*.{end}")]


def check_writable(path: Path) -> None:
    """Raise UserError if `path` cannot be made or replaced: before the work that would be lost."""
    if path.suffix and path.is_dir():
        raise UserError(f"{path} cannot be written: it is a folder; name another path")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(
            f"{path} cannot be written: {folder} is not a folder that you may write to; name another path"
        )
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"{path} cannot be written: it exists and is write-protected; name another path")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def only_process(folder: Path, what: str, main: bool = True) -> Iterator[None]:
    """Keep other processes out of a folder that this one writes to, if it is the one of its ranks that does.

    Raises:
        UserError: if another process is there.
    """
    if not main:
        yield
        return
    check_writable(folder / "any")
    new = not folder.exists()
    lock = FileLock(folder / ".lock", timeout=0)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout as fault:
        raise UserError(f"{folder} is in use by another process, {what}: name another --out") from fault
    try:
        yield
    finally:
        # Removed while it is held: who opened it before and locks it after finds it gone, and takes another.
        remove(folder / ".lock")
        lock.release()
        if new and not any(folder.iterdir()):
            folder.rmdir()
