"""Models that are named by a local path or by their name on the hub. Does not import torch."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from .checks import here_or_on_hub
from .construction import CONSTRUCTION
from .errors import UserError, reason_of
from .untrusted import reading


def local_or_hub(label: str, name: str, description: str, files: Sequence[str]) -> Path | None:
    """Return the folder that a name stands for; None for a name on the hub, which is not contacted.

    Args:
        label: name of the value in messages, such as the option that was given.
        name: path, or name on the hub.
        description: description of the object that is named, with its article.
        files: names of files of which such a folder holds at least one.

    Raises:
        UserError: if the path is not such a folder, or the name cannot be one on the hub.
    """
    here_or_on_hub(f"{label} {name} cannot be loaded:", name, description)
    folder = Path(name).expanduser()
    if not folder.exists():
        return None
    if folder.is_dir() and any((folder / file).is_file() for file in files):
        return folder
    expected = " or ".join(files[:2])
    problem = f"the folder has no {expected}" if folder.is_dir() else "it is not a folder"
    raise UserError(
        f"{label} {name} cannot be loaded as {description}: {problem}; give another folder, or a name on the "
        "hub"
    )


def only_local(folder: Path | None) -> bool:
    """Return whether a model is loaded from local files alone, for `local_files_only` of its library.

    Args:
        folder: folder of the model; None for a name on the hub, which may be in the cache.
    """
    return folder is not None or not hub_is_known()


def hub_is_known() -> bool:
    """Return whether the address of the hub is known here, which it is not without a network.

    The libraries of the hub would try to reach it for half a minute or more, and report every attempt.
    """
    if {"http", "https", "all"} & getproxies().keys():  # the proxy knows the address
        return True
    from huggingface_hub.constants import ENDPOINT

    try:
        socket.getaddrinfo(urlsplit(ENDPOINT).hostname, None)
    except OSError:
        return False
    return True


@contextmanager
def loading(subject: str, folder: Path | None) -> Iterator[None]:
    """Turn the errors of a library that loads a model into UserError "SUBJECT cannot be loaded: ...".

    Other threads load and build no network meanwhile, see `construction`.

    Args:
        subject: label and name of the model.
        folder: folder of the model; None for a name on the hub.
    """
    try:
        with CONSTRUCTION, reading(folder or "it"):
            yield
    except UserError as error:
        if error.__cause__ is None and folder is None:
            raise
        cause = error.__cause__
        on_disk = isinstance(cause, OSError) and cause.errno is not None  # such as a full one
        named = folder is not None or on_disk
        advice = "" if named else "; give an existing folder, or check the name and the connection"
        own = folder is not None or error.__cause__ is None
        reason = str(error) if own else reason_of(error.__cause__ or error).split(". ")[0]
        if not named and isinstance(cause, OSError) and not hub_is_known():
            reason = "it is not in the cache, and the hub cannot be reached"
        raise UserError(f"{subject} cannot be loaded: {reason}{advice}") from error
