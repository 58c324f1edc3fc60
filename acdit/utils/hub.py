"""Models that are named by a local path or by their name on the hub. Does not import torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
        advice = "" if folder else "; give an existing folder, or check the name and the connection"
        own = folder is not None or error.__cause__ is None
        reason = str(error) if own else reason_of(error.__cause__ or error).split(". ")[0]
        raise UserError(f"{subject} cannot be loaded: {reason}{advice}") from error
