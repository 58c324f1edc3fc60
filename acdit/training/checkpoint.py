"""Checkpoints: safetensors and JSON, whole or not at all, checked when they are read; shared by all ranks."""

import hashlib
import json
import re
import shutil
import sys
import warnings
from collections.abc import Container, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from ..utils.errors import UserError
from ..utils.files import leftovers, remove, whole
from ..utils.progress_bar import ProgressBar
from ..utils.ranks import ALONE, Ranks
from ..utils.settings import differences, flatten

FORMAT_VERSION = 2  # 1: one file for each part
STATE_FILE = "state.json"


@dataclass(frozen=True)
class Stored:
    """A checkpoint on disk, read as far as its JSON.

    Attributes:
        path: its folder.
        state: what the run wrote beside the tensors; `step`, `recipe` and `network` at least.
    """

    path: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Steps that were done."""
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
    """Write `folder`/step-00001000, each rank its part, and remove the older ones that are not to be kept.

    Args:
        folder: of the run's checkpoints.
        state: JSON, with `step`, and where it was measured the `validation` loss.
        tensors: by name, `part.parameter`; plain ones are alike on all ranks, DTensors are sharded over them.
        keep: how many of the newest stay. The best by validation loss stays too.
        keep_every: every checkpoint at a multiple of so many steps stays; 0 = none for that reason.
        ranks: that all call this.

    Raises:
        OSError: on all ranks, if one could not write; the older checkpoints are as they were.
    """
    path = folder / f"step-{state['step']:08d}"
    aside = fault = None
    try:
        with ExitStack() as stack:
            try:
                if ranks.main:
                    aside = stack.enter_context(whole(path))
                    aside.mkdir()
            except OSError as found:
                fault = _reason(found)
            aside, fault = ranks.told((aside, fault))
            if fault is None and aside is not None:
                fault = _write(aside, tensors, state, ranks)
            fault = next(filter(None, ranks.gathered(fault)), None)
            if fault is not None:
                raise OSError(fault)
    except OSError as found:
        fault = _reason(found)
    fault = ranks.told(fault)  # of all, and of the first rank's last step, the renaming
    if fault is not None:
        raise OSError(f"{path} cannot be written: {fault}")
    if ranks.main:
        _prune(folder, keep, keep_every)
    return path


def _write(aside: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], ranks: Ranks) -> str | None:
    """Fill a checkpoint's folder: tensors, and from the first rank the state. Returns what went wrong."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            writer = HuggingFaceStorageWriter(str(aside), save_distributed=True)
            held = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save(held, storage_writer=writer, no_dist=ranks.alone)
        digests = _digests(sorted(aside.glob("*.safetensors")), ranks)
        if ranks.main:
            full = {"format_version": FORMAT_VERSION, **state, "files": digests}
            (aside / STATE_FILE).write_text(json.dumps(full | {"digest": _digest_of(full)}, indent=2) + "\n")
    except (OSError, CheckpointException) as fault:
        return _reason(fault)
    return None


def newest_checkpoint(folder: Path, ranks: Ranks = ALONE) -> Stored | None:
    """The newest checkpoint of a folder that is undamaged, or None where there is none yet.

    A damaged one is set aside, under another name, with a warning.

    Raises:
        UserError: if all are damaged, or another version of the library wrote the newest.
    """
    if ranks.main:
        for left in leftovers(folder / "step-*"):
            remove(left)
    ranks.wait()
    found = _checkpoints(folder)
    for path in reversed(found):
        stored = _read(path)
        digests = _digests([path / name for name in stored.state["files"]], ranks) if stored else {}
        if stored is not None and digests == stored.state["files"]:
            return stored
        ranks.wait()  # nobody moves it while another reads
        if ranks.main:
            moved = path.with_name(f"{path.name}.damaged")
            remove(moved)
            path.rename(moved)
            words = f"warning: {path} is damaged; it is now {moved.name}, and the one before is taken"
            ProgressBar.write(words, file=sys.stderr)
        ranks.wait()
    if found:
        raise UserError(f"every checkpoint in {folder} is damaged; remove {folder} to start anew")
    return None


def fill(stored: Stored, tensors: Mapping[str, Tensor], ranks: Ranks = ALONE) -> None:
    """Read a checkpoint into tensors of the same names and shapes, however it was sharded then and is now."""
    reader = HuggingFaceStorageReader(str(stored.path))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        load(dict(tensors), storage_reader=reader, no_dist=ranks.alone)


def read_part(stored: Stored, part: str) -> dict[str, Tensor]:
    """The tensors `part.NAME` of a checkpoint, whole, by NAME."""
    described = HuggingFaceStorageReader(str(stored.path)).read_metadata().state_dict_metadata
    wanted: dict[str, Any] = {name: held for name, held in described.items() if name.startswith(f"{part}.")}
    tensors = {name: torch.empty(held.size, dtype=held.properties.dtype) for name, held in wanted.items()}
    fill(stored, tensors)
    return {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items()}


def check_recipe(
    stored: Stored,
    recipe: Mapping[str, Any],
    changeable: Container[str],
    defaults: Mapping[str, Any],
    *,
    fixed: tuple[str, ...] = (),
    allowed: bool | None = None,
) -> list[str]:
    """In what a recipe differs from that of a checkpoint, in words, changeable keys left out.

    Args:
        stored: the checkpoint.
        recipe: of the run that goes on.
        changeable: keys that may differ.
        defaults: of keys that were not there yet when the checkpoint was written.
        fixed: beginnings of keys that the checkpoint's tensors depend on.
        allowed: whether other keys may differ too; None = they may never.

    Raises:
        UserError: if keys differ that may not.
    """
    before = flatten(defaults) | flatten(stored.state["recipe"])
    changed = {key: words for key, words in differences(before, recipe).items() if key not in changeable}
    folder = stored.path.parent.parent
    if any(key.startswith(fixed) for key in changed if fixed):
        words = [words for key, words in changed.items() if key.startswith(fixed)]
        raise UserError(
            f"{folder} holds a run of another network; what differs: {', '.join(words)}. "
            "Name another --out, or remove that folder"
        )
    if changed and not allowed:
        raise UserError(
            f"{folder} holds a run of another recipe; what differs: {', '.join(changed.values())}. "
            f"{'Name' if allowed is None else 'Go on with --allow-changes, or name'} another --out, or "
            "remove that folder"
        )
    return list(changed.values())


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8}", path.name))


def _read(path: Path) -> Stored | None:
    """A checkpoint's JSON; None if it is damaged."""
    try:
        state = json.loads((path / STATE_FILE).read_text())
        version, digest = state["format_version"], state.pop("digest", None)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if version != FORMAT_VERSION and digest in (None, _digest_of(state)):
        remedy = "upgrade acdit" if version > FORMAT_VERSION else "go on with an older acdit, or remove it"
        raise UserError(f"{path} has format version {version}, not {FORMAT_VERSION}: {remedy}")
    return Stored(path, state) if digest == _digest_of(state) else None


def validation_losses(folder: Path) -> dict[Path, float]:
    """The validation losses of a folder's checkpoints, of those that have one and are undamaged."""
    states = {path: stored.state for path in _checkpoints(folder) if (stored := _read(path))}
    return {
        path: state["validation"] for path, state in states.items() if state.get("validation") is not None
    }


def _digests(files: list[Path], ranks: Ranks) -> dict[str, str | None]:
    """Digests of files by name, each rank reading its share; None for one that cannot be read."""
    mine: dict[str, str | None] = {}
    for file in files[ranks.rank :: ranks.world_size]:
        try:
            with file.open("rb") as opened:
                mine[file.name] = hashlib.file_digest(opened, "blake2b").hexdigest()
        except OSError:
            mine[file.name] = None
    found = {name: digest for part in ranks.gathered(mine) for name, digest in part.items()}
    return {file.name: found[file.name] for file in files}


def _digest_of(state: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _prune(folder: Path, keep: int, keep_every: int) -> None:
    """Remove the checkpoints that are neither new, nor the best, nor at a step to keep."""
    *older, newest = _checkpoints(folder)
    kept = {newest, *older[len(older) - (keep - 1) :]}
    measured = validation_losses(folder)
    if measured:
        kept.add(min(measured, key=lambda path: measured[path]))
    for path in older:
        if path not in kept and not (keep_every and int(path.name.removeprefix("step-")) % keep_every == 0):
            shutil.rmtree(path)


def _reason(fault: BaseException) -> str:
    """What went wrong on the ranks where it did, in a line."""
    if isinstance(fault, CheckpointException):
        return "; ".join(sorted({_reason(inner[0]) for inner in fault.failures.values()}))
    return " ".join(str(fault).split()) or type(fault).__name__
