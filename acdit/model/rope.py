"""RoPE-ND (section 4.3, Eq. 4): rotary tables for integer coordinates, and the rotation."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..utils.tracing import tensor_cache
from .layout import Layout

Variant = Literal["eq4", "published"]
VARIANTS: tuple[Variant, ...] = ("eq4", "published")
Positions = Literal["rope_nd", "rope_1d", "absolute", "none"]  # see `ACDiTTransformer`
POSITIONS: tuple[Positions, ...] = ("rope_nd", "rope_1d", "absolute", "none")


class RopeTable(NamedTuple):
    """Cosines and sines for every token, and the segments within which the rotation pairs dimensions.

    Attributes:
        cos: Cosines (T, B, 1, D).
        sin: Sines (T, B, 1, D).
        segments: Number of dimensions of each segment; their sum is D.
    """

    cos: Tensor
    sin: Tensor
    segments: tuple[int, ...]

    def select(self, blocks: "slice | Tensor") -> "RopeTable":
        """Return the tables of some blocks of the sequence."""
        return RopeTable(self.cos[blocks], self.sin[blocks], self.segments)

    def rotate(self, x: Tensor) -> Tensor:
        """Rotate queries or keys (.., T, B, H, D) by the coordinates of their tokens, in at least float32."""
        wide = x.to(self.cos.dtype)
        return _rotate_half(wide, self.segments).mul_(self.sin).addcmul_(wide, self.cos).to(x.dtype)

    def rotate_gradient(self, grad: Tensor) -> Tensor:
        """Apply the transpose of `rotate`.

        `_rotate_half` is antisymmetric, so its transpose is its negative.
        """
        wide = grad.to(self.cos.dtype)
        return (wide * self.cos).sub_(_rotate_half(wide * self.sin, self.segments))


def default_split(head_dim: int, axes: int) -> tuple[int, ...]:
    """Return the number of dimensions of a head that each axis rotates.

    A head dimension of 64 is split into 64, 32|32 or 16|24|24 for 1, 2 or 3 axes (section 4.3).

    Raises:
        ValueError: If the head dimension cannot be split like this; another split must be given in that case.
    """
    return axis_widths(head_dim, axes, "a head dimension", ", or give rope_split")


def axis_widths(width: int, axes: int, name: str, advice: str) -> tuple[int, ...]:
    """Split a width over axes in even parts, with the ratios 1, 1|1 or 2|3|3 for 1, 2 or 3 axes.

    Raises:
        ValueError: If this is not possible; `name` says what the width is of, and `advice` what else to do.
    """
    ratios = {1: (1,), 2: (1, 1), 3: (2, 3, 3)}.get(axes)
    if ratios is None:
        raise ValueError(f"axis_lengths must have 1 to 3 values, not {axes}")
    if width % (2 * sum(ratios)):
        raise ValueError(
            f"{name} of {width} cannot be split over {axes} axes; use a multiple of {2 * sum(ratios)}{advice}"
        )
    return tuple(ratio * width // sum(ratios) for ratio in ratios)


def check_split(split: tuple[int, ...], head_dim: int, axes: int) -> None:
    """Raise ValueError unless `split` gives every axis an even number of the head's dimensions."""
    if len(split) != axes or sum(split) != head_dim or any(width < 2 or width % 2 for width in split):
        raise ValueError(
            f"rope_split must be {axes} even widths that sum to the head dimension {head_dim}, not {split}"
        )


def rope_base(length: int, variant: Variant) -> int:
    """Return the base of an axis of `length` tokens (Eq. 4): 100 ceil(8 length / (100 pi)).

    The longest wavelength is about eight times the axis. The published weights have int(8 length / pi),
    rounded up to the next multiple of 100, in its place.
    """
    if variant == "published":
        return (int(8 * length / math.pi) // 100 + 1) * 100
    return 100 * math.ceil(8 * length / (100 * math.pi))


class Rotation(NamedTuple):
    """Rotation of a network's heads (section 4.3): what determines the tables, except the coordinates."""

    lengths: tuple[int, ...]
    """Number of tokens along each axis that the bases are computed for."""
    split: tuple[int, ...]
    """Number of dimensions of a head that each axis rotates."""
    variant: Variant
    """`eq4`, or `published` for the published weights."""
    dtype: torch.dtype
    """Data type of the tables."""
    device: torch.device
    """Device of the tables."""
    positions: Positions = "rope_nd"
    """By which coordinates heads are rotated; all but `rope_nd` have a single axis, the whole head."""

    def table(self, layout: Layout, blocks: range) -> RopeTable:
        """Return the tables for the tokens of some blocks."""
        return _table(self, layout, blocks)

    def at(self, coordinates: Tensor) -> RopeTable:
        """Compute the tables for integer coordinates (T, B, axes), in float64.

        The published weights (`variant="published"`) were trained with exponents that include both ends, with
        the angles of every axis written twice, and with pairs across the whole head that do not line up with
        the axes. This is not a true rotation and is supported only for these weights.
        """
        head_dim = sum(self.split)
        angles = []
        for axis, (length, width) in enumerate(zip(self.lengths, self.split, strict=True)):
            pairs = width // 2
            if self.variant == "published":
                exponents = torch.linspace(0, head_dim, pairs, dtype=torch.float32).double() / head_dim
            else:
                exponents = torch.arange(pairs, dtype=torch.float64) / pairs  # 2 (i - 1) / d_j
            frequencies = rope_base(length, self.variant) ** -exponents
            angles.append((coordinates[..., axis, None] * frequencies).repeat(1, 1, 2))  # (T, B, d_j)
        table = torch.cat(angles, dim=-1)[:, :, None]  # (T, B, 1, D)
        segments = (head_dim,) if self.variant == "published" else self.split
        return RopeTable(
            table.cos().to(self.device, self.dtype), table.sin().to(self.device, self.dtype), segments
        )

    def shifted(self, layout: Layout, keys: Tensor, tokens: int) -> Tensor:
        """Return rotated keys (N, H, L, D) as they would be this many tokens further along the first axis.

        This is valid only for true rotations, so not for the published variant, and in a sequence only if the
        blocks are as long as the grid along all other axes.
        """
        steps = {"rope_nd": tokens, "rope_1d": tokens * math.prod(layout.grid[1:])}.get(self.positions, 0)
        step = torch.tensor([steps] + [0] * (len(self.split) - 1))
        return self.at(step[None, None]).rotate(keys)


@tensor_cache(maxsize=64)
def _table(rotation: Rotation, layout: Layout, blocks: range) -> RopeTable:
    return rotation.at(_coordinates(rotation.positions, layout, blocks))


def _coordinates(positions: Positions, layout: Layout, blocks: range) -> Tensor:
    """Return the integers (T, B, axes) by which the tokens of some blocks are rotated; 0 = not rotated.

    With `rope_1d` the coordinate is the token's index in the sequence of all blocks.
    """
    if positions == "rope_nd":
        return layout.coordinates(blocks)
    size = layout.block_tokens
    indices = torch.arange(blocks.start * size, blocks.stop * size).view(-1, size, 1)
    return indices if positions == "rope_1d" else torch.zeros_like(indices)


@tensor_cache(maxsize=64)
def block_rows(clean: tuple[int, ...], views: tuple[int, ...], samples: int, device: torch.device) -> Tensor:
    """Return the row of every block of a call in the table of the blocks from the first to the last one.

    The clean blocks of all samples come first, then their views. The indices are kept on the device, because
    copying them there waits for all that runs on it.
    """
    parts = [torch.tensor(part, device=device).repeat(samples) for part in (clean, views) if part]
    return torch.cat(parts) - min((*clean, *views))


def _rotate_half(x: Tensor, segments: tuple[int, ...]) -> Tensor:
    """Map (x1, x2) to (-x2, x1), where x1 and x2 are the halves of each segment."""
    if len(set(segments)) == 1:
        first, second = x.unflatten(-1, (len(segments), 2, -1)).unbind(-2)
        return torch.stack((-second, first), dim=-2).flatten(-3)
    halves = (part.chunk(2, dim=-1) for part in x.split(segments, dim=-1))
    return torch.cat([half for first, second in halves for half in (-second, first)], dim=-1)
