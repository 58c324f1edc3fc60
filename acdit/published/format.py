"""Format of the published checkpoints: weights and arguments, which are checked as they are read."""

import argparse
import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from ..model.layout import Layout
from ..model.rope import default_split
from ..utils.errors import UserError
from ..utils.pickles import load_untrusted
from ..utils.untrusted import shown
from .weights import dense_weights, without_wrappers

COUNTS = (
    "vae_latent_size",
    "patch_size",
    "block_size",
    "ar_len",
    "num_frames",
    "image_size",
    "vae_patch_pixels",
)
MAX_VALUES = 100_000  # in one of the arguments, counted as often as they are used
MAX_COUNT = 2**16  # largest valid count in the arguments
EXAMPLE = "a published checkpoint such as ACDiT-XL-img.pt"
PUBLISHED_NAME = "ACDiT-XL"  # for a size without a name; only the sizes of the tensors matter


@dataclass(frozen=True)
class PublishedArguments:
    """Checked arguments of a published checkpoint, with the names of its `args`."""

    model: str
    vae_latent_size: int
    """Number of latent channels."""
    patch_size: int
    block_size: int
    """Number of tokens of a block."""
    ar_len: int
    """Number of blocks."""
    num_frames: int
    image_size: int
    vae_patch_pixels: int
    """Side of a latent cell in pixels."""
    nd_split: str | None
    """Proportions of the head dimension for each axis, such as 2_3_3."""
    square_block: bool | None
    """Square blocks (true) or blocks of whole frames (false); None = square for images, frames for video."""

    @classmethod
    def read(cls, namespace: object) -> "PublishedArguments":
        """Read the arguments from the stored Namespace.

        Raises:
            UserError: if the Namespace is not valid; the message names the fault.
        """
        if type(namespace) is not argparse.Namespace:
            raise UserError(f"args must be an argparse.Namespace, not {type(namespace).__name__}")
        stored = vars(namespace)
        optional: dict[str, Any] = {"model": PUBLISHED_NAME, "nd_split": None, "square_block": None}
        known = optional | {name: stored[name] for name in _names(cls) if name in stored}
        missing = [name for name in _names(cls) if name not in known]
        if missing:
            raise UserError(f"args lacks {', '.join(missing)}")
        for name, value in stored.items():
            if not _is_plain(value):
                label = name if isinstance(name, str) and name.isidentifier() else shown(name)
                raise UserError(f"args.{label} must be a plain value, not {type(value).__name__}")
        arguments = cls(**known)
        arguments.check()
        return arguments

    def check(self) -> None:
        """Raise UserError if the value of an argument is not valid."""
        for name in COUNTS:
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= MAX_COUNT:
                raise UserError(
                    f"args.{name} must be a whole number from 1 to {MAX_COUNT}, not {shown(value)}"
                )
        if not isinstance(self.model, str):
            raise UserError(f"args.model must be a name, not {shown(self.model)}")
        if not isinstance(self.square_block, bool | None):
            raise UserError(f"args.square_block must be true or false, not {shown(self.square_block)}")
        proportions = r"[1-9]\d?(_[1-9]\d?)*"
        if self.nd_split is not None and not (
            isinstance(self.nd_split, str) and re.fullmatch(proportions, self.nd_split)
        ):
            raise UserError(f"args.nd_split must be proportions such as 2_3_3, not {shown(self.nd_split)}")

    def layout(self) -> Layout:
        """Return grid, block and patch in latent cells: (h, w) for one frame, (t, h, w) for several."""
        side, remainder = divmod(self.image_size, self.vae_patch_pixels * self.patch_size)
        if remainder or not side:
            raise UserError(
                f"args.image_size {self.image_size} must be a multiple of vae_patch_pixels x patch_size, "
                f"{self.vae_patch_pixels} x {self.patch_size}"
            )
        video = self.num_frames > 1
        if self.square_block if self.square_block is not None else not video:
            block_side = math.isqrt(self.block_size)
            block = (1, block_side, block_side)
        else:
            block = (self.block_size // side**2, side, side)
        if math.prod(block) != self.block_size:
            shape = "square blocks" if block[0] == 1 and block[1] != side else "blocks of whole frames"
            raise UserError(f"args.block_size must be the size of {shape}, not {self.block_size}")
        grid, patch = (self.num_frames, side, side), (1, self.patch_size, self.patch_size)
        first = 0 if video else 1
        layout = Layout(grid[first:], block[first:], patch[first:])
        if layout.num_blocks != self.ar_len:
            raise UserError(f"args.ar_len {self.ar_len} must be {layout.num_blocks}, the blocks of {layout}")
        return layout

    def rope_split(self, head_dim: int, axes: int) -> tuple[int, ...]:
        """Return the number of dimensions of a head that are rotated for each axis."""
        if self.nd_split is None:
            return default_split(head_dim, axes)
        proportions = [int(proportion) for proportion in self.nd_split.split("_")]
        return tuple(proportion * head_dim // sum(proportions) for proportion in proportions)


@dataclass(frozen=True)
class PublishedCheckpoint:
    """Content of a published file: arguments, weights, and their moving average if there is one.

    Attributes:
        arguments: checked arguments.
        model: weights by name.
        ema: moving average of the weights by name.
        notes: sentences about the changes to the names, by part.
    """

    arguments: PublishedArguments
    model: dict[str, Tensor]
    ema: dict[str, Tensor] | None
    notes: dict[str, str]


def read_checkpoint(path: Path) -> PublishedCheckpoint:
    """Read a published checkpoint without executing anything in it.

    Raises:
        UserError: if the file is not a published checkpoint, is damaged, or would execute code.
    """
    stored = load_untrusted(path, EXAMPLE)
    if not isinstance(stored, dict) or not {"model", "args"} <= stored.keys():
        raise UserError(f"{path} is not a published checkpoint: it lacks model or args")
    size, notes = path.stat().st_size, {}
    try:
        arguments = PublishedArguments.read(stored["args"])
        weights = {}
        for part in ("model", "ema"):
            if part == "model" or stored.get(part) is not None:
                renamed = without_wrappers(stored[part], part)
                weights[part] = dense_weights(renamed.weights, part, size)
                if renamed.removed:
                    notes[part] = (
                        f"the keys of {part} in {path} are read without {', '.join(renamed.removed)}"
                    )
    except UserError as fault:
        raise UserError(f"{path} is not a published checkpoint: {fault}") from fault
    return PublishedCheckpoint(arguments, weights["model"], weights.get("ema"), notes)


def _names(cls: type) -> list[str]:
    return [field.name for field in fields(cls)]


def _is_plain(value: Any) -> bool:
    """Return whether a value consists of plain values; it may contain itself, or others many times."""
    waiting, count = [value], 0
    while waiting:
        item = waiting.pop()
        count += 1
        if count > MAX_VALUES:
            return False
        if isinstance(item, list | tuple):
            waiting += item
        elif isinstance(item, dict):
            if not all(isinstance(key, str) for key in item):
                return False
            waiting += item.values()
        elif not (item is None or isinstance(item, int | float | str | bool)):
            return False
    return True
