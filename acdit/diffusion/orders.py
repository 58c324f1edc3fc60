"""Orders in which the masked tokens of a block are revealed, one by one. Does not import torch.

An order that chooses each position from the tokens that are already revealed, before the next one is drawn,
takes one path through every text. The probability of the text is then the product over the steps of this
path, and needs no bound.
"""

from collections.abc import Sequence

from ..utils.checks import is_integer
from ..utils.errors import UserError
from ..utils.settings import nearest, split_values

Order = str | Sequence[int]
"""Name of `ORDERS`, or the positions of a block, each once, in the order in which they are revealed."""

RANDOM, LEFT, RIGHT, LOWEST_ENTROPY = "random", "left", "right", "lowest-entropy"
ORDERS: dict[str, str] = {
    RANDOM: "in random order",
    LEFT: "from left to right",
    RIGHT: "from right to left",
    LOWEST_ENTROPY: "first the position whose predicted distribution has the lowest entropy",
}


def checked_order(order: object, label: str = "order") -> Order:
    """Return an order, after checking it.

    Args:
        order: Name of an order, or positions.
        label: Name of the value in messages.

    Raises:
        UserError: If there is no such order, or a position is missing or repeated.
    """
    if isinstance(order, str):
        if order not in ORDERS:
            raise UserError(
                f"{label} must be {', '.join(ORDERS)} or the positions of a block, such as 1,0,2, not "
                f"{order!r}; did you mean {nearest(order, ORDERS)[0]}?"
            )
        return order
    if not isinstance(order, Sequence) or not all(map(is_integer, order)):
        raise UserError(f"{label} must be {', '.join(ORDERS)} or a list of positions, not {order!r}")
    if not order or sorted(order) != list(range(len(order))):
        raise UserError(
            f"{label} must hold every position of a block once, 0 to one below its tokens, not {list(order)}"
        )
    return [int(position) for position in order]


def parse_order(text: str, label: str) -> Order:
    """Parse an order as it is typed: a name, or positions such as 1,0,2.

    Raises:
        UserError: If it is none; the message calls it `label`.
    """
    values = split_values(text)
    if values and all(value.isdecimal() for value in values):
        return checked_order([int(value) for value in values], label)
    return checked_order(text, label)


def order_name(order: Order) -> str:
    """Return the name of an order as it is typed: that of `ORDERS`, or its positions."""
    return order if isinstance(order, str) else ",".join(map(str, order))


def fixed_positions(order: Order, size: int) -> list[int] | None:
    """Return the positions of a block of `size` tokens in their order, or None if no fixed order is named.

    Raises:
        UserError: If the order is of blocks of another size.
    """
    if isinstance(order, str):
        positions = list(range(size))
        return {LEFT: positions, RIGHT: positions[::-1]}.get(order)
    if len(order) != size:
        raise UserError(f"the order {order_name(order)} is for blocks of {len(order)} tokens, not {size}")
    return list(order)
