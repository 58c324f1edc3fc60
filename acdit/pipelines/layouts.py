"""Layouts of a call: the model's own, with another size or another block size."""

from collections.abc import Iterable, Sequence

from ..model.layout import Layout
from ..utils.checks import is_integer
from ..utils.errors import UserError


def requested_layout(
    own: Layout,
    height: int | None,
    width: int | None,
    block: Sequence[int] | None,
    before: Sequence[int] = (),
    *,
    scale: int,
) -> Layout:
    """Return the layout for another size in pixels or another block size.

    Args:
        own: layout of the model.
        height: height in pixels; None = the model's.
        width: width in pixels; None = the model's.
        block: tokens of a block along each axis; None = the model's.
        before: number of tokens along each axis before height and width.
        scale: side in pixels of what a patch counts: 1, or that of a latent cell.

    Raises:
        UserError: if the size is not one of whole tokens, or the block does not fit.
    """
    rows, columns = own.grid[-2:]
    grid = list(before)
    for name, pixels, tokens, patch in zip(
        ("height", "width"), (height, width), (rows, columns), own.patch[-2:], strict=True
    ):
        side = patch * scale
        if pixels is not None and (not is_integer(pixels) or pixels < side or pixels % side):
            raise UserError(f"{name} must be a multiple of {side} pixels, not {pixels}")
        grid.append(tokens if pixels is None else pixels // side)
    return Layout(tuple(grid), requested_block(own, block), own.patch)


def requested_block(own: Layout, block: Sequence[int] | None) -> tuple[int, ...]:
    """Check and return the tokens of a block along each axis; None = those of the model's own layout."""
    if block is None:
        return own.block
    sizes = tuple(block) if isinstance(block, Iterable) else ()
    if len(sizes) != len(own.block) or not all(is_integer(size) and size > 0 for size in sizes):
        raise UserError(
            f"block must be {len(own.block)} positive numbers, such as {own.block}, not {block!r}"
        )
    return tuple(int(size) for size in sizes)


def requested_text_layout(own: Layout, block: int | None) -> Layout:
    """Return the layout of the longest text with blocks of another number of tokens; None = the model's."""
    size = own.block_tokens if block is None else block
    if not is_integer(size) or size < 1 or own.num_tokens % size:
        raise UserError(f"block must divide the model's {own.num_tokens} tokens; {size} does not")
    return Layout((own.num_tokens,), (int(size),))
