"""Write files and folders completely or not at all."""

import hashlib
import os
import re
import shutil
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from .errors import UserError

LONGEST_NAME = 225  # bytes; file systems allow 255, of which the names of temporary files need 26 more


class InUseError(UserError):
    """Another process uses a folder or a file."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` for a file or folder; sync it and rename it to `path` on success.

    If `path` is a symbolic link, the file or folder that it points to is written, and the link stays.
    The files get the permissions that the umask gives to new files, because safetensors makes its files
    readable for the owner only. What killed processes of this machine left of the same path is removed.
    """
    _check_name(path)
    path = _target(path)
    with _kept_if_used(path.parent):
        writer = f"{os.getpid()}-{_host()}"
        temporary_path = path.with_name(f".{path.name}.{writer}.partial")
        for leftover in leftovers(path.with_name(escape(path.name))):
            if not _is_writing(leftover):
                remove(leftover)
        try:
            yield temporary_path
            umask = os.umask(0)
            os.umask(umask)  # the umask can only be read by setting it
            for file in sorted(temporary_path.rglob("*")) if temporary_path.is_dir() else [temporary_path]:
                if file.is_file():
                    file.chmod(0o666 & ~umask)
                _sync(file)
            _sync(temporary_path)
            if path.is_dir() and not temporary_path.is_dir():
                raise IsADirectoryError(f"{path} is a folder and cannot be replaced by a file")
            if path.is_dir():
                # A folder cannot be replaced in one step: the old one is moved away first.
                old = path.with_name(f".{path.name}.{writer}.old")
                path.rename(old)
                temporary_path.rename(path)
                remove(old)
            else:
                temporary_path.replace(path)
            _sync(path.parent)
        except SafetensorError as error:  # raised by safetensors on a full disk
            raise OSError(f"{path} cannot be written: {error}") from error
        finally:
            remove(temporary_path)


def leftovers(path: Path) -> list[Path]:
    """Return files and folders that killed processes left beside `path`: incomplete and replaced ones.

    The name of `path` may contain wildcards. If a process died between moving the old folder away and moving
    the new one in, the old folder gets its name back.
    """
    for old in path.parent.glob(f".{path.name}.[0-9]*.old"):
        if _is_writing(old):
            continue  # that process is about to move the new folder in
        name = path.with_name(old.name[1:].rsplit(".", 2)[0])
        if not name.exists():
            old.rename(name)
    return [
        leftover
        for suffix in ("partial", "old")
        for leftover in path.parent.glob(f".{path.name}.[0-9]*.{suffix}")
    ]


def remove_leftovers(folder: Path) -> None:
    """Remove all incomplete and replaced files in a folder that only this process writes to."""
    for leftover in leftovers(folder / "*"):
        if not _is_writing(leftover):
            remove(leftover)


def _host() -> str:
    """Return a short word for this machine, for the names of temporary files on shared file systems."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_writing(temporary_path: Path) -> bool:
    """Return whether another living process may still write a temporary file of `whole`.

    Processes of other machines cannot be seen, so they count as living.
    """
    number, _, host = temporary_path.name.rsplit(".", 2)[1].partition("-")
    if host not in ("", _host()):
        return True
    if not number.isdecimal() or int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of another user
        return True
    return bool(host)  # earlier versions did not write the machine: the number may be that of any process


def check_writable(path: Path, *, folder: bool = False) -> None:
    """Raise UserError if `path` cannot be created or replaced.

    Call this before work whose result would be lost.

    Args:
        path: File or folder.
        folder: Whether it is a folder, whose name may have a dot; a name with a dot is otherwise a file's.
    """
    _check_name(path)
    if path.is_symlink():
        check_writable(_target(path), folder=folder)
        return
    if not folder and path.suffix and path.is_dir():
        raise UserError(f"{path} cannot be written: it is a folder; give another path")
    parent = path.parent
    while not parent.exists():
        if parent.is_symlink():  # to nothing: it cannot be created
            raise UserError(f"{path} cannot be written: {parent} is a link to nothing; give another path")
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(
            f"{path} cannot be written: {parent} is not a folder that you may write to; give another path"
        )
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"{path} cannot be written: it exists and is write-protected; give another path")


def check_replaceable(path: Path, own: str, remedy: str) -> None:
    """Raise UserError unless a folder may be replaced: it does not exist, or holds own files alone.

    Call this before work whose result would be lost, and again before the folder is replaced.

    Args:
        path: Folder, or a link to one.
        own: Regular expression of the relative paths of the files that the package writes to such folders.
        remedy: What the user can do.
    """
    _check_name(path)
    check_writable(path / "any")
    target = _target(path)
    if not target.exists():
        return
    if not os.access(target.parent, os.W_OK):
        raise UserError(f"{path} cannot be replaced: {target.parent} is write-protected; {remedy}")
    for file in sorted(target.rglob("*")):
        name = file.relative_to(target).as_posix()
        if file.is_symlink() or (not file.is_dir() and not re.fullmatch(own, name)):
            raise UserError(f"{path} would be replaced, but {name} in it was not written by acdit: {remedy}")


def _check_name(path: Path) -> None:
    """Raise UserError unless something can be written beside `path` that is then renamed to it."""
    if path.name in ("", ".."):
        raise UserError(
            f"{path} cannot be written: it is the current folder, or one above; give the path of something "
            "in it"
        )
    if len(os.fsencode(path.name)) > LONGEST_NAME:
        raise UserError(f"{path} cannot be written: its name is longer than {LONGEST_NAME} bytes; shorten it")


def _target(path: Path) -> Path:
    """Return the path that is written in place of a symbolic link; other paths are returned as they are."""
    if not path.is_symlink():
        return path
    loop = f"{path} cannot be written: it is a link to itself; give another path"
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # a loop, up to Python 3.12
        raise UserError(loop) from error
    if target.is_symlink():  # since Python 3.13
        raise UserError(loop)
    return target


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_digest(path: Path) -> str:
    """Return a short digest of the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def model_digest(folder: Path) -> str:
    """Return a digest of a pipeline's weights and configuration that does not depend on its path."""
    digest = hashlib.blake2b(digest_size=8)
    listed = sorted([*folder.rglob("*.json"), *folder.rglob("*.safetensors")])
    for file in filter(Path.is_file, listed):  # a pipe might never end
        digest.update(file.relative_to(folder).as_posix().encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "blake2b").digest())
    return digest.hexdigest()


def remove(path: Path) -> None:
    """Remove a file or a folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def only_process(
    folder: Path, description: str, main: bool = True, *, option: str = "--out"
) -> Iterator[None]:
    """Lock a folder against other processes inside the context.

    Args:
        folder: Folder that this process writes to.
        description: Description of the other process in the error message.
        main: Whether this process is the rank that writes to the folder; on other ranks, nothing is locked.
        option: Option that names the folder.

    Raises:
        InUseError: If another process uses the folder.
    """
    if not main:
        yield
        return
    check_writable(folder / "any")
    with _kept_if_used(folder), _locked(folder / ".lock", folder, description, option):
        yield


@contextmanager
def only_writer(path: Path, description: str, main: bool = True, *, folder: bool = False) -> Iterator[None]:
    """Lock a file, or a folder that appears as a whole, against other writers inside the context.

    The lock lies beside the path; `description` and `main` are as of `only_process`, `folder` as of
    `check_writable`.

    Raises:
        InUseError: If another process writes to the path.
    """
    if not main:
        yield
        return
    check_writable(path, folder=folder)
    path = _target(path)
    lock = path.with_name(f".{path.name}.lock")
    with _kept_if_used(path.parent), _locked(lock, path, description, "--out"):
        yield


@contextmanager
def _kept_if_used(folder: Path) -> Iterator[None]:
    """Create a folder with its parents; at the end, remove those of them that are still empty."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for each in made:
            try:
                each.rmdir()
            except OSError:  # it is used
                break


@contextmanager
def _locked(file: Path, path: Path, description: str, option: str) -> Iterator[None]:
    """Hold the lock of a file, which the operating system releases when the process dies."""
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InUseError(
            f"{path} is in use by another process, {description}: wait until it has ended, or give another "
            f"{option}"
        ) from error
    try:
        yield
    finally:
        # The file is removed while it is locked: a process that opened it before and locks it afterwards
        # finds it removed, and locks a new file.
        remove(file)
        lock.release()
