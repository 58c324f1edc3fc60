"""Checkpoints: safetensors and JSON, whole or not at all."""

import json
import re
import shutil
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..arguments import differences
from ..errors import UserError
from ..files import whole

FORMAT_VERSION = 1
STATE_FILE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on: tensors by file and name, and JSON.

    Attributes:
        step: steps that were done.
        recipe: the run's configuration.
        network: the network's configuration.
        tensors: `model`, `ema` and `optimizer`, each by name.
    """

    step: int
    recipe: dict[str, Any]
    network: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write `folder`/step-00001000 and remove all but the newest `keep` checkpoints."""
    path = folder / f"step-{checkpoint.step:08d}"
    with whole(path) as aside:
        aside.mkdir()
        for name, tensors in checkpoint.tensors.items():
            held = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            save_file(held, aside / f"{name}.safetensors")
        state = {
            "format_version": FORMAT_VERSION,
            "step": checkpoint.step,
            "recipe": checkpoint.recipe,
            "network": checkpoint.network,
        }
        (aside / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n")
    for old in _checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in a folder, or None where there is none yet.

    Raises:
        UserError: if a newer version of the library wrote it.
    """
    found = _checkpoints(folder)
    if not found:
        return None
    state = json.loads((found[-1] / STATE_FILE).read_text())
    if state["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"{found[-1]} has format version {state['format_version']}, not {FORMAT_VERSION}: upgrade acdit"
        )
    tensors = {path.stem: load_file(path) for path in sorted(found[-1].glob("*.safetensors"))}
    return Checkpoint(state["step"], state["recipe"], state["network"], tensors)


def check_recipe(
    checkpoint: Checkpoint, recipe: Mapping[str, Any], changeable: Container[str], folder: Path
) -> None:
    """Raise UserError if a checkpoint is one of another recipe, by more than the changeable keys."""
    found = differences(checkpoint.recipe, recipe)
    changed = [words for key, words in found.items() if key not in changeable]
    if changed:
        raise UserError(
            f"{folder} holds a run of another recipe; what differs: {', '.join(changed)}. "
            "Name another --out, or remove that folder"
        )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as tensors named `parameter.state`, for example `3.exp_avg`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, held in state.items()
        for name, value in held.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8}", path.name))
