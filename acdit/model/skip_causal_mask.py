"""Skip-Causal Attention (section 4.2, Fig. 2a) as one predicate: the keys that each query sees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..utils.tracing import tensor_cache


@dataclass(frozen=True)
class Visibility:
    """Keys that the query blocks of one stream see: clean blocks 0..clean-1, then the stream's own.

    A query block with the limit b sees clean blocks j < b. With a window w, j >= its index - w or j < sinks
    must hold too. With `own`, the query block also sees itself, in full. A clean block i has the limit i + 1,
    and its own keys are among the clean keys. A noised view of block i has the limit i, and its own keys are
    separate.
    """

    block_tokens: int
    clean: int
    limits: tuple[int, ...]
    own: bool
    window: int | None = None
    sinks: int = 0

    @property
    def is_full(self) -> bool:
        """Return whether all queries attend to all keys, so that no mask is needed."""
        return not self.own and self.window is None and min(self.limits) >= self.clean

    def first(self, limit: int) -> int:
        """Return the first clean block inside the window of a query block with this limit."""
        index = limit if self.own else limit - 1
        return 0 if self.window is None else max(0, index - self.window)

    def sees(self, limit: int, block: int) -> bool:
        """Return whether queries attend to a clean block: it lies before their limit and is not evicted."""
        return block < limit and (block >= self.first(limit) or block < self.sinks)


def clean_visibility(
    block_tokens: int,
    start: int,
    stop: int,
    window: int | None = None,
    sinks: int = 0,
    bidirectional: bool = False,
) -> Visibility:
    """Return which of the clean blocks 0..stop-1 are seen by the clean blocks start..stop-1.

    c_i sees c_j for j <= i, or for all j < stop if attention is bidirectional.
    """
    limits = (stop,) * (stop - start) if bidirectional else tuple(range(start + 1, stop + 1))
    return Visibility(block_tokens, stop, limits, False, window, sinks)


def view_visibility(
    block_tokens: int, blocks: Sequence[int], window: int | None = None, sinks: int = 0
) -> Visibility:
    """Return which blocks noised views see: n_i sees c_j for j < i, and itself."""
    return Visibility(block_tokens, max(blocks), tuple(blocks), True, window, sinks)


def predicate(visibility: Visibility, device: torch.device) -> tuple[Callable[..., Tensor], int, int]:
    """Return the predicate on token indices (broadcastable), and the numbers of queries and keys."""
    tokens, blocks = visibility.block_tokens, len(visibility.limits)
    # Index tensors, not constants: a compiled mask function can then be used for every subset of the same
    # number of blocks.
    limit = torch.tensor(visibility.limits, device=device)
    first = torch.tensor([visibility.first(limit) for limit in visibility.limits], device=device)
    clean, sinks = visibility.clean, visibility.sinks

    def sees(query: Tensor, key: Tensor) -> Tensor:
        query_block, key_block = query // tokens, key // tokens
        visible = (key_block < limit[query_block]) & ((key_block >= first[query_block]) | (key_block < sinks))
        return ((key_block < clean) & visible) | (key_block == query_block + clean)

    return sees, blocks * tokens, (clean + blocks * visibility.own) * tokens


@tensor_cache(maxsize=64)
def dense_mask(visibility: Visibility, device: torch.device) -> Tensor:
    """Return a boolean mask (Q, K), which is true where the query sees the key."""
    sees, queries, keys = predicate(visibility, device)
    return sees(torch.arange(queries, device=device)[:, None], torch.arange(keys, device=device)[None])
