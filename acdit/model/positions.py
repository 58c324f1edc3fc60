"""Positions of tokens: RoPE-ND, and the variants that the paper compares it with (Fig. 6b)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..utils.tracing import tensor_cache
from .layout import Layout
from .rope import POSITIONS, VARIANTS, axis_widths, check_split, default_split


def rotary_split(
    positions: str, rope: str, rope_split: Sequence[int] | None, hidden_size: int, num_heads: int, axes: int
) -> tuple[int, ...]:
    """Return the number of dimensions of a head per rotated axis, after checking that the arguments fit.

    Without RoPE-ND, the whole head has one axis: the index in the sequence, or no position at all.

    Raises:
        ValueError: If an argument is unknown, or does not fit the others.
    """
    if positions not in POSITIONS:
        raise ValueError(f"positions must be one of {', '.join(POSITIONS)}, not {positions!r}")
    if rope not in VARIANTS:
        raise ValueError(f"rope must be one of {', '.join(VARIANTS)}, not {rope!r}")
    head_dim = hidden_size // num_heads
    if positions == "rope_nd":
        split = tuple(rope_split) if rope_split is not None else default_split(head_dim, axes)
        check_split(split, head_dim, axes)
        return split
    if rope != "eq4" or rope_split is not None:
        raise ValueError(
            f"rope and rope_split are for positions rope_nd, not for {positions}: leave them out"
        )
    if positions == "absolute":
        axis_widths(hidden_size, axes, "a hidden size", "")
    check_split((head_dim,), head_dim, 1)
    return (head_dim,)


@tensor_cache(maxsize=64)
def sincos_table(
    width: int, layout: Layout, blocks: range, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return the fixed embeddings (T, B, width) of the coordinates of some blocks, as DiT has them.

    Every axis has a part of the width: the sines of its coordinate at frequencies from 1 to 1/10000, then the
    cosines. The parts have the ratio of RoPE-ND.
    """
    coordinates = layout.coordinates(blocks).double()
    parts = []
    for axis, size in enumerate(axis_widths(width, layout.axes, "a hidden size", "")):
        frequencies = 10000 ** -(torch.arange(size // 2, dtype=torch.float64) / (size // 2))
        angles = coordinates[..., axis, None] * frequencies  # (T, B, size / 2)
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=-1).to(device, dtype)
