"""Conditioning vectors of noised views, and a memo that reuses them across blocks."""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MAX_BYTES = 2**28


class ConditionMemo:
    """Memo of vectors by use and by (timestep, label); every block of a generation needs the same ones.

    Args:
        max_bytes: Size in bytes above which the memo is cleared.
    """

    def __init__(self, max_bytes: int = MAX_BYTES):
        self.max_bytes = max_bytes
        self._vectors: dict[Hashable, dict[Hashable, Tensor]] = {}
        self._nbytes = 0

    def rows(self, use: Hashable, keys: Sequence[Hashable], compute: Callable[[list[int]], Tensor]) -> Tensor:
        """Return the vectors of all keys, (keys, ..).

        `compute` is called with the indices of the keys that are not in the memo.
        """
        if self._nbytes > self.max_bytes:
            self._vectors.clear()
            self._nbytes = 0
        vectors = self._vectors.setdefault(use, {})
        new = {key: index for index, key in enumerate(keys) if key not in vectors}
        if new:
            computed = compute(list(new.values()))
            self._nbytes += computed.nbytes
            vectors.update(zip(new, computed, strict=True))
        return torch.stack([vectors[key] for key in keys])


class Conditions(NamedTuple):
    """Conditioning vectors for adaLN, one per noised view, with an optional memo and one key per view."""

    vectors: Tensor  # (N M, hidden)
    memo: ConditionMemo | None = None
    keys: tuple[Hashable, ...] = ()

    def through(self, use: Hashable, module: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the output of a module for the vectors, from the memo if there is one.

        `use` names the module in the memo.
        """
        # Compiled code would be bound to the keys that are in the memo, and be compiled anew at every step.
        if torch.compiler.is_compiling() or self.memo is None:
            return module(self.vectors)
        return self.memo.rows(use, self.keys, lambda indices: module(self.vectors[indices]))
