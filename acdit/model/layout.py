"""Layout: an N-D grid of tokens cut into N-D blocks.

Patches, block order and coordinates are defined only here.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from ..utils.errors import UserError

if TYPE_CHECKING:
    import torch

LONGEST_LIST = 4096  # numbers that are tried for the list of valid sizes in a message


@dataclass(frozen=True)
class Layout:
    """Token grid, the blocks that tile it, and the patch of data that each token holds.

    An image of 4 blocks of 256 tokens is `Layout((32, 32), (16, 16))`, a video of 4 blocks of 4 frames is
    `Layout((16, 16, 16), (4, 16, 16), (1, 2, 2))`, and a text is `Layout((1024,), (8,))`. Blocks are in
    raster order, and so are the tokens inside a block.

    Args:
        grid: Number of tokens along each axis, (h, w), (t, h, w) or (l,).
        block: Number of tokens of one block along each axis; each must divide that of the grid.
        patch: Number of data elements (pixels, frames) of one token along each axis; 1 along each by default.

    Raises:
        ValueError: If the numbers of axes differ, a size is not positive, or the blocks do not tile the grid;
            the message lists the sizes that do.
    """

    grid: tuple[int, ...]
    block: tuple[int, ...]
    patch: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        patch = tuple(self.patch) or (1,) * len(self.grid)
        for name, sizes in (("grid", self.grid), ("block", self.block), ("patch", patch)):
            if len(sizes) != len(self.grid) or not sizes or any(size < 1 for size in sizes):
                raise ValueError(
                    f"{name} must have {len(self.grid)} positive sizes, one per axis, not {tuple(sizes)}"
                )
            object.__setattr__(self, name, tuple(int(size) for size in sizes))
        if any(size % side for size, side in zip(self.grid, self.block, strict=True)):
            valid = " x ".join("{" + ", ".join(map(str, _divisors(size))) + "}" for size in self.grid)
            raise ValueError(
                f"block {dims(self.block)} does not tile the {dims(self.grid)} token grid; "
                f"valid sizes along each axis: {valid}"
            )

    @property
    def axes(self) -> int:
        """Return the number of axes."""
        return len(self.grid)

    @property
    def size(self) -> tuple[int, ...]:
        """Return the number of data elements along each axis: grid times patch."""
        return tuple(tokens * side for tokens, side in zip(self.grid, self.patch, strict=True))

    @property
    def block_counts(self) -> tuple[int, ...]:
        """Return the number of blocks along each axis."""
        return tuple(tokens // side for tokens, side in zip(self.grid, self.block, strict=True))

    @property
    def num_blocks(self) -> int:
        """Return the number of blocks."""
        return math.prod(self.block_counts)

    @property
    def block_tokens(self) -> int:
        """Return the number of tokens per block."""
        return math.prod(self.block)

    @property
    def num_tokens(self) -> int:
        """Return the number of tokens of the grid."""
        return math.prod(self.grid)

    @property
    def patch_elements(self) -> int:
        """Return the number of data elements per token."""
        return math.prod(self.patch)

    def with_block(self, block: Sequence[int]) -> "Layout":
        """Return a layout with the same grid cut into other blocks.

        Raises:
            ValueError: If the blocks do not tile the grid.
        """
        return replace(self, block=tuple(block))

    def to_blocks(self, data: "torch.Tensor") -> "torch.Tensor":
        """Cut data (N, C, *size) into blocks (N, T, B, patch elements x C).

        The values of a patch are in the order (row, column, channel). Data without channels, such as token
        ids (N, L), become (N, T, B).

        Raises:
            ValueError: If the data have another size.
        """
        if data.ndim == self.axes + 1 and self.patch_elements == 1:
            return self.to_blocks(data[:, None]).squeeze(-1)
        if data.ndim != self.axes + 2 or tuple(data.shape[2:]) != self.size:
            raise ValueError(
                f"data must be (N, C, {dims(self.size, ', ')}) for {self}, not {tuple(data.shape)}"
            )
        batch, channels = data.shape[:2]
        cut = data.reshape(
            batch, channels, *chain.from_iterable(self._cuts())
        )  # (N, C, T1, B1, P1, T2, B2, P2, ..)
        blocks, tokens, patches = (range(2 + part, cut.ndim, 3) for part in range(3))
        cut = cut.permute(0, *blocks, *tokens, *patches, 1)  # (N, T1, T2, .., B1, B2, .., P1, P2, .., C)
        return cut.reshape(
            batch, self.num_blocks, self.block_tokens, self.patch_elements * channels
        )  # (N, T, B, C)

    def from_blocks(self, blocks: "torch.Tensor") -> "torch.Tensor":
        """Invert `to_blocks`: (N, T, B, patch elements x C) -> (N, C, *size)."""
        expected = (self.num_blocks, self.block_tokens)
        if blocks.ndim != 4 or tuple(blocks.shape[1:3]) != expected or blocks.shape[3] % self.patch_elements:
            raise ValueError(
                f"blocks must be (N, {dims(expected, ', ')}, C) for {self}, not {tuple(blocks.shape)}"
            )
        counts, tokens, patches = zip(*self._cuts(), strict=True)
        cut = blocks.reshape(len(blocks), *counts, *tokens, *patches, -1)  # (N, T1, .., B1, .., P1, .., C)
        order = chain.from_iterable(
            (1 + axis, 1 + self.axes + axis, 1 + 2 * self.axes + axis) for axis in range(self.axes)
        )
        cut = cut.permute(0, cut.ndim - 1, *order)  # (N, C, T1, B1, P1, T2, B2, P2, ..)
        return cut.reshape(len(blocks), cut.shape[1], *self.size)  # (N, C, *size)

    def coordinates(self, blocks: range | None = None) -> "torch.Tensor":
        """Return the integer grid coordinates (T, B, axes) of every token of some blocks, or of all."""
        import torch

        blocks = range(self.num_blocks) if blocks is None else blocks
        corners = torch.unravel_index(torch.arange(blocks.start, blocks.stop), self.block_counts)
        offsets = torch.unravel_index(torch.arange(self.block_tokens), self.block)
        axes = zip(corners, self.block, offsets, strict=True)
        return torch.stack([corner[:, None] * side + offset for corner, side, offset in axes], dim=-1)

    def _cuts(self) -> list[tuple[int, int, int]]:
        return list(zip(self.block_counts, self.block, self.patch, strict=True))

    def __str__(self) -> str:
        patch = "" if self.patch_elements == 1 else f", patch {dims(self.patch)}"
        return f"grid {dims(self.grid)}, block {dims(self.block)}{patch}"


def check_token_blocks(layout: Layout) -> None:
    """Raise UserError unless the blocks of a layout are single tokens, as a head per token needs."""
    if layout.block_tokens != 1:
        single = dims((1,) * layout.axes)
        raise UserError(
            f"a model with a diffusion head per token generates single tokens: the block must be {single}, "
            f"not {dims(layout.block)}"
        )


def parse_dims(text: str, name: str = "block", axes: int | None = None) -> tuple[int, ...]:
    """Parse sizes as they are written on the command line and in recipes: "4x4" -> (4, 4).

    Raises:
        ValueError: If the text does not contain sizes, or their number is not `axes`.
    """
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text):
        raise ValueError(f"{name} must be sizes joined by x, such as 4x4, not {text!r}")
    sizes = tuple(int(part) for part in text.split("x"))
    if axes not in (None, len(sizes)):
        raise ValueError(f"{name} must have {axes} size{'s' * (axes != 1)}, not {text}")
    return sizes


def dims(sizes: Sequence[int], joint: str = "x") -> str:
    """Format sizes as text, the inverse of `parse_dims`: (4, 4) -> "4x4"."""
    return joint.join(str(size) for size in sizes)


def _divisors(size: int) -> list[int]:
    """Return the divisors of a number up to `LONGEST_LIST`, and the number itself."""
    small = [side for side in range(1, min(size - 1, LONGEST_LIST) + 1) if size % side == 0]
    return [*small, size]
