"""Conditions of noised views, and a memo of what the network makes of them for the blocks that ask again."""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MAX_BYTES = 2**28


class ConditionMemo:
    """Vectors by their use and by (timestep, label): every block of a generation asks for the same ones.

    Args:
        max_bytes: held before all is forgotten and the memo starts anew.
    """

    def __init__(self, max_bytes: int = MAX_BYTES):
        self.max_bytes = max_bytes
        self._held: dict[Hashable, dict[Hashable, Tensor]] = {}
        self._nbytes = 0

    def rows(self, use: Hashable, keys: Sequence[Hashable], compute: Callable[[list[int]], Tensor]) -> Tensor:
        """The vectors of all keys, (keys, ..); `compute` is asked for those at the places of new ones."""
        if self._nbytes > self.max_bytes:
            self._held.clear()
            self._nbytes = 0
        known = self._held.setdefault(use, {})
        new = {key: place for place, key in enumerate(keys) if key not in known}
        if new:
            made = compute(list(new.values()))
            self._nbytes += made.nbytes
            known.update(zip(new, made, strict=True))
        return torch.stack([known[key] for key in keys])


class Conditions(NamedTuple):
    """What adaLN acts by: a vector for each view, and the memo, if there is one, with a key for each view."""

    vectors: Tensor  # (N M, hidden)
    memo: ConditionMemo | None = None
    keys: tuple[Hashable, ...] = ()

    def through(self, use: Hashable, module: Callable[[Tensor], Tensor]) -> Tensor:
        """What a module, named by its use, makes of the vectors."""
        if self.memo is None:
            return module(self.vectors)
        return self.memo.rows(use, self.keys, lambda places: module(self.vectors[places]))
