"""Checkpoints (safetensors, JSON): written completely or not at all, verified when read, shared by ranks."""

import hashlib
import json
import re
import shutil
import sys
import warnings
from collections.abc import Container, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from ..utils.errors import UserError, reason_of
from ..utils.files import leftovers, remove, whole
from ..utils.kinds import OBJECT, Kind, check_values, number, whole_number
from ..utils.progress_bar import ProgressBar
from ..utils.ranks import ALONE, Ranks
from ..utils.untrusted import file_name, read_object, reading

FORMAT_VERSION = 2  # version 1 had one file for each part
STATE_FILE = "state.json"
VERSION = whole_number(0)
FILES = Kind(
    "an object of names of files and their digests",
    lambda value: isinstance(value, dict) and all(map(file_name, value)),
)
STATE_KINDS = {
    "step": whole_number(0),
    "files": FILES,
    "recipe": OBJECT.if_given(),
    "network": OBJECT.if_given(),
    "validation": number().or_none().if_given(),
}


@dataclass(frozen=True)
class Stored:
    """A checkpoint on disk, of which only the JSON has been read.

    Attributes:
        path: Folder of the checkpoint.
        state: State that the run wrote in addition to the tensors; at least `step`, `recipe` and `network`.
    """

    path: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Return the number of completed steps."""
        return self.state["step"]


def save_checkpoint(
    folder: Path,
    state: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    keep: int,
    keep_every: int = 0,
    ranks: Ranks = ALONE,
) -> Path:
    """Write the checkpoint `folder`/step-00001000, and remove the older ones that need not be kept.

    Each rank writes its own part.

    Args:
        folder: Folder of the run's checkpoints.
        state: JSON state, with `step` and, if it was measured, the `validation` loss.
        tensors: Tensors by name, `part.parameter`. Plain tensors are equal on all ranks, DTensors are sharded
            over the ranks.
        keep: Number of the newest checkpoints to keep. The best by validation loss is kept too.
        keep_every: Interval in steps; checkpoints at its multiples are kept too. 0 = none.
        ranks: Ranks of the run; all of them must call this function.

    Raises:
        OSError: On all ranks, if any rank could not write; the older checkpoints are then unchanged.
    """
    path = folder / f"step-{state['step']:08d}"
    temporary_path = failure = None
    try:
        with ExitStack() as stack:
            try:
                if ranks.main:
                    temporary_path = stack.enter_context(whole(path))
                    temporary_path.mkdir()
            except OSError as error:
                failure = _reason(error)
            temporary_path, failure = ranks.from_main((temporary_path, failure))
            if failure is None and temporary_path is not None:
                failure = _write(temporary_path, tensors, state, ranks)
            failure = next(filter(None, ranks.gathered(failure)), None)
            if failure is not None:
                raise OSError(failure)
    except OSError as error:
        failure = _reason(error)
    failure = ranks.from_main(failure)  # the first rank may also have failed at the final renaming
    if failure is not None:
        raise OSError(f"{path} cannot be written: {failure}")
    if ranks.main:
        prune_checkpoints(folder, keep, keep_every)
    return path


def _write(
    temporary_path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], ranks: Ranks
) -> str | None:
    """Write the tensors and, on the first rank, the state of a checkpoint.

    Returns:
        Reason of a failure, or None on success.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            writer = HuggingFaceStorageWriter(str(temporary_path), save_distributed=True)
            contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save(contiguous, storage_writer=writer, no_dist=ranks.alone)
        digests = _digests(sorted(temporary_path.glob("*.safetensors")), ranks)
        if ranks.main:
            full = {"format_version": FORMAT_VERSION, **state, "files": digests}
            (temporary_path / STATE_FILE).write_text(
                json.dumps(full | {"digest": _digest_of(full)}, indent=2) + "\n"
            )
    except (OSError, CheckpointException) as fault:
        return _reason(fault)
    return None


def newest_checkpoint(folder: Path, ranks: Ranks = ALONE) -> Stored | None:
    """Return the newest undamaged checkpoint of a folder, or None if there is no checkpoint yet.

    Damaged checkpoints are renamed, with a warning.

    Raises:
        UserError: If all checkpoints are damaged, or another version of the library wrote the newest one.
    """
    if ranks.main:
        for leftover in leftovers(folder / "step-*"):
            remove(leftover)
    ranks.wait()
    paths = _checkpoints(folder)
    for path in reversed(paths):
        stored = _read(path)
        digests = _digests([path / name for name in stored.state["files"]], ranks) if stored else {}
        if stored is not None and digests == stored.state["files"]:
            return stored
        ranks.wait()  # it must not be renamed while another rank reads it
        if ranks.main:
            renamed = path.with_name(f"{path.name}.damaged")
            remove(renamed)
            path.rename(renamed)
            message = (
                f"warning: {path} is damaged and was renamed to {renamed.name}; the previous one is used"
            )
            ProgressBar.write(message, file=sys.stderr)
        ranks.wait()
    if paths or any(folder.glob("step-*.damaged")):  # of this start, or of an earlier one
        raise UserError(f"every checkpoint in {folder} is damaged; remove {folder} to start again")
    return None


def fill(stored: Stored, tensors: Mapping[str, Tensor], ranks: Ranks = ALONE) -> None:
    """Read a checkpoint into tensors of the same names and shapes.

    The tensors may be sharded differently than when the checkpoint was written.
    """
    reader = _Reader(stored)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(dict(tensors), storage_reader=reader, no_dist=ranks.alone)


def read_part(stored: Stored, part: str) -> dict[str, Tensor]:
    """Return the tensors `part.NAME` of a checkpoint, unsharded, by NAME."""
    with reading(stored.path):
        metadata = _Reader(stored).read_metadata().state_dict_metadata
    selected: dict[str, Any] = {
        name: description for name, description in metadata.items() if name.startswith(f"{part}.")
    }
    tensors = {
        name: torch.empty(description.size, dtype=description.properties.dtype)
        for name, description in selected.items()
    }
    fill(stored, tensors)
    return {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items()}


def stored_checkpoints(folder: Path) -> list[Stored]:
    """Return the checkpoints of a folder whose state can be read, from the oldest to the newest."""
    return [stored for path in _checkpoints(folder) if (stored := _read(path)) is not None]


def check_whole(stored: Stored) -> None:
    """Check the files of a checkpoint against the digests in its state.

    Raises:
        UserError: If a file is damaged or missing.
    """
    digests = _digests([stored.path / name for name in stored.state["files"]], ALONE)
    damaged = [name for name, digest in stored.state["files"].items() if digests[name] != digest]
    if damaged:
        raise UserError(f"{stored.path} is damaged: {damaged[0]} is not the file that was written")


class _Reader(HuggingFaceStorageReader):
    """Reader of the files that a checkpoint lists; other files in its folder are ignored."""

    def __init__(self, stored: Stored) -> None:
        super().__init__(str(stored.path))
        self.fs = _Listed({str(stored.path / name) for name in stored.state["files"]})


class _Listed(FileSystem):
    """File system that shows some files only."""

    def __init__(self, paths: Container[str]) -> None:
        self._paths = paths

    def ls(self, path: str | PathLike[str]) -> list[str]:
        """Return the paths in a folder that are among the files."""
        return [each for each in super().ls(path) if each in self._paths]


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8}", path.name))


def _read(path: Path) -> Stored | None:
    """Read the JSON of a checkpoint; return None if it is damaged.

    Raises:
        UserError: If another version of the library wrote it, or it may not be read.
    """
    if not _is_readable(path / STATE_FILE):
        return None
    try:
        state = check_values(read_object(path / STATE_FILE, infinite=True), {"format_version": VERSION}, path)
    except UserError:
        return None
    version, digest = state["format_version"], state.pop("digest", None)
    if version != FORMAT_VERSION and digest in (None, _digest_of(state)):
        remedy = "upgrade acdit" if version > FORMAT_VERSION else "continue with an older acdit, or remove it"
        raise UserError(f"{path} has format version {version}, not {FORMAT_VERSION}: {remedy}")
    try:
        check_values(state, STATE_KINDS, path)
    except UserError:
        return None
    return Stored(path, state) if digest == _digest_of(state) else None


def validation_losses(folder: Path, recipe: Mapping[str, Any] | None = None) -> dict[Path, float]:
    """Return the validation losses of a folder's undamaged checkpoints that were measured on the same data.

    Args:
        folder: folder of checkpoints.
        recipe: values of a recipe, whose validation data count; None = those of the newest checkpoint.

    Returns:
        The losses by path, without those of checkpoints that have none.
    """
    states = {path: stored.state for path in _checkpoints(folder) if (stored := _read(path))}
    newest: Mapping[str, Any] = next(reversed(states.values()), {}).get("recipe", {})
    wanted = _validation_data(newest if recipe is None else recipe)
    return {
        path: state["validation"]
        for path, state in states.items()
        if state.get("validation") is not None and _validation_data(state.get("recipe", {})) == wanted
    }


def _validation_data(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a recipe that choose the validation data, without those that are not set."""
    settings = recipe.get("validation", {})  # an earlier version may lack keys, which are then not set
    return {key: value for key, value in settings.items() if key != "every" and value is not None}


def _digests(files: list[Path], ranks: Ranks) -> dict[str, str | None]:
    """Return the digests of files by name, None for missing ones; each rank reads a part of the files."""
    own: dict[str, str | None] = {}
    with ranks.failing_together():
        for file in files[ranks.rank :: ranks.world_size]:
            own[file.name] = None
            if _is_readable(file):
                with file.open("rb") as opened:
                    own[file.name] = hashlib.file_digest(opened, "blake2b").hexdigest()
    digests = {name: digest for part in ranks.gathered(own) for name, digest in part.items()}
    return {file.name: digests[file.name] for file in files}


def _is_readable(file: Path) -> bool:
    """Return whether a file of a checkpoint exists.

    Raises:
        UserError: If it exists, but cannot be opened: the checkpoint may be sound.
    """
    try:
        with file.open("rb"):
            return True
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return False
    except OSError as error:
        raise UserError(
            f"{file} cannot be read: {error.strerror}; the checkpoint may be sound, so make it readable, or "
            f"move {file.parent} away"
        ) from error


def _digest_of(state: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(state, sort_keys=True).encode()).hexdigest()


def prune_checkpoints(folder: Path, keep: int, keep_every: int) -> None:
    """Remove the checkpoints that are neither among the newest, nor the best, nor at a step to keep."""
    if not (checkpoints := _checkpoints(folder)):
        return
    kept = set(checkpoints[-keep:])
    measured = validation_losses(folder)
    if measured:
        kept.add(min(measured, key=lambda path: measured[path]))
    for path in checkpoints:
        if path in kept or (keep_every and int(path.name.removeprefix("step-")) % keep_every == 0):
            continue
        try:
            shutil.rmtree(path)
        except OSError as fault:  # the new checkpoint is whole, so that the run continues
            message = f"warning: {path} cannot be removed: {reason_of(fault)}"
            ProgressBar.write(message, file=sys.stderr)


def _reason(fault: BaseException) -> str:
    """Describe a failure in one line, with the reasons from all ranks where it occurred."""
    if isinstance(fault, CheckpointException):
        return "; ".join(sorted({_reason(inner[0]) for inner in fault.failures.values()}))
    return " ".join(str(fault).split()) or type(fault).__name__
