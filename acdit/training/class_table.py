"""Carry the rows of a class table over to other classes, by name."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from ..data.identity import ClassNames, row_sources

TABLE = "y_embedder.embedding_table.weight"  # parameter of the network; its last row is the null label


@torch.no_grad()
def carry_rows(table: Tensor, old_table: Tensor, old: ClassNames, new: Sequence[str]) -> None:
    """Copy the rows of the classes that two tables share, and the null row, in place.

    The rows of new classes are not changed.

    Args:
        table: Table of the new classes, on this rank or sharded; all ranks must then call this function.
        old_table: Table of the old classes.
        old: Names of the old classes.
        new: Names of the new classes.
    """
    sources = {row: source for row, source in enumerate(row_sources(old, new)) if source is not None}
    sources[len(new)] = len(old)  # the null row
    full = table.full_tensor() if isinstance(table, DTensor) else table.detach()
    changed = full.clone()
    changed[list(sources)] = old_table[list(sources.values())].to(changed)
    if isinstance(table, DTensor):
        changed = distribute_tensor(changed, table.device_mesh, table.placements)
    table.copy_(changed)
