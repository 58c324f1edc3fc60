"""Named sizes of the network."""

from typing import NamedTuple


class Size(NamedTuple):
    """Named size of the network (Table 5)."""

    num_layers: int
    hidden_size: int
    num_heads: int


SIZES = {
    "S": Size(6, 128, 4),  # not in the paper: for laptops
    "B": Size(12, 768, 12),
    "L": Size(24, 1024, 16),
    "XL": Size(28, 1152, 18),
    "H": Size(32, 1280, 20),
}
