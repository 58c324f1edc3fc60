"""Runs that take milliseconds: a network of one layer on the 8x8 digits."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from acdit.training.config import Recipe
from acdit.training.progress import StepResult
from acdit.training.recipes import load_recipe
from acdit.training.run import Run

SMALL: dict[str, Any] = {
    "name": "small",
    "model.num_layers": 1,
    "model.hidden_size": 16,
    "model.num_heads": 1,
    "training.steps": 6,
    "training.batch_size": 12,
    "training.precision": "no",
    "optimizer.learning_rate": 1e-2,
}


def small_recipe(out: Path, **changes: Any) -> Recipe:
    """The recipe `digits` with a tiny network; `changes` by section, such as `training={"steps": 3}`."""
    dotted = {
        f"{section}.{key}": value
        for section, values in changes.items()
        for key, value in (values.items() if isinstance(values, dict) else [])
    }
    plain = {key: value for key, value in changes.items() if not isinstance(value, dict)}
    return load_recipe("digits", **(SMALL | {"out": str(out)} | plain | dotted))


def damaged_pictures(folder: Path, every: int) -> str:
    """A folder of a class of 24 grey pictures of 8x8 pixels, of which every so many-th file is cut off."""
    source = torch.Generator().manual_seed(0)
    (folder / "cat").mkdir(parents=True)
    for index in range(24):
        pixels = torch.randint(0, 256, (8, 8), generator=source, dtype=torch.uint8)
        file = folder / "cat" / f"{index:02d}.png"
        Image.fromarray(pixels.numpy()).save(file)
        if index % every == 1:
            file.write_bytes(file.read_bytes()[:60])
    return str(folder)


def all_state(run: Run) -> dict[str, Tensor]:
    """Weights, moving average and optimiser state of a run, copied."""
    return {name: tensor.detach().clone() for name, tensor in run.learner.tensors().items()}


def advance(run: Run, steps: int) -> list[StepResult]:
    """Take some steps of a run."""
    stepping = run.steps()
    return [next(stepping) for _ in range(steps)]


def unequal(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    """Names under which two sets of tensors differ in any bit."""
    return [name for name in sorted(a.keys() | b.keys()) if not _same(a.get(name), b.get(name))]


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is not None and b is not None and a.dtype == b.dtype and torch.equal(a, b)


def relative_error(a: Tensor, b: Tensor) -> float:
    """||a - b|| / ||b||."""
    return float((a.double() - b.double()).norm() / b.double().norm())
