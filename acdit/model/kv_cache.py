"""KVCache: preallocated keys and values of earlier clean blocks, written in place and passed to each call."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..utils.errors import UserError
from .conditioning import ConditionMemo
from .layout import Layout


def check_sinks(layout: Layout, config: Mapping[str, Any]) -> None:
    """Raise UserError unless the keys of the first blocks can be moved along with the window.

    This requires blocks that follow each other along the first axis only, and a true rotation, which neither
    the published rotary variant nor absolute positions are.

    Args:
        layout: Layout of the samples.
        config: Config of an `ACDiTTransformer`.
    """
    if layout.block[1:] != layout.grid[1:]:
        raise UserError(
            f"sinks need blocks as long as the grid along all axes except the first, not {layout}"
        )
    if config.get("rope") == "published":
        raise UserError("the published rotary variant does not support sinks; leave out sinks")
    if config.get("positions") == "absolute":
        raise UserError("a model with absolute positions does not support sinks; leave out sinks")


class LayerCache(NamedTuple):
    """Keys and values of one layer in a `KVCache`, not copied: of the cached blocks, then of the new ones.

    A layer gets its part of the cache as tensors, because code that is compiled for one layer, with the index
    of the layer or the number of cached blocks as constants, would not serve the others.
    """

    key: Tensor  # (N, H, .. B, D)
    value: Tensor  # (N, H, .. B, D)

    def write(self, key: Tensor, value: Tensor) -> None:
        """Write the keys and values of the new blocks (N, H, P B, D), which are the last ones."""
        start = self.key.shape[2] - key.shape[2]
        self.key[:, :, start:] = key
        self.value[:, :, start:] = value


class KVCache:
    """Cache of the keys and values of earlier clean blocks, for every layer.

    Clean tokens depend on neither timestep nor noise, and on the label only if `context_sees_labels` is true
    of the network. So one cache serves every diffusion step and both branches of classifier-free guidance.
    The last block of a layout is never attended to, so it is not cached. The cache also holds `conditions`, a
    memo of the vectors of timesteps and labels, which repeat from block to block.

    With a window w the cache rolls: for a layout of any length it holds the first s blocks, the sinks (arXiv
    2309.17453), the last w blocks, and one more that is being written. After blocks have been evicted, the
    sinks are treated as if they were directly before the window: their keys are rotated accordingly.

    Args:
        layout: Layout that the blocks belong to.
        num_layers: Number of layers of the network.
        batch_size: Number of samples.
        num_heads: Number of attention heads.
        head_dim: Dimension of a head.
        window: Number of previous clean blocks visible to each block, w; None = all.
        sinks: Number of first blocks that are never evicted, s.
        turned: Function of rotated keys (N, H, L, D) and a number of tokens; it returns the keys as they
            would be that many tokens later along the first axis.
        lead: Number of tokens before the first block, whose keys are written with those of the first call;
            only without a window.
        dtype: Data type of the stored tensors.
        device: Device of the stored tensors.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        num_layers: int,
        batch_size: int,
        num_heads: int,
        head_dim: int,
        window: int | None = None,
        sinks: int = 0,
        turned: Callable[[Tensor, int], Tensor],
        lead: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        if window is None and sinks:
            raise ValueError(f"{sinks} sinks were given without a window; give the window too")
        if (window is not None and window < 1) or sinks < 0:
            raise ValueError(f"window must be at least 1 and sinks at least 0, not {window} and {sinks}")
        self.layout = layout
        self.batch_size = batch_size
        self.window, self.sinks = window, sinks
        self.capacity = layout.num_blocks - 1
        if window is not None:
            self.capacity = min(self.capacity, sinks + window + 1)
        self.num_blocks = 0
        """Number of clean blocks that were written."""
        self.num_evicted = 0
        """Number of these blocks that were evicted; they lie between the sinks and the window."""
        self.conditions = ConditionMemo()
        self._shift_keys, self._lead = turned, lead
        self._first_keys: list[Tensor] = []  # of every layer: keys of the sinks at their original positions
        tokens = lead + self.capacity * layout.block_tokens
        shape = (batch_size, num_heads, tokens, head_dim)  # (N, H, L, D)
        # a memory of its own for each tensor: compiled code would copy tensors that share one to write to it
        self._layers = [
            LayerCache(*(torch.empty(shape, dtype=dtype, device=device) for _ in LayerCache._fields))
            for _ in range(num_layers)
        ]

    @property
    def nbytes(self) -> int:
        """Return the number of allocated bytes, filled or not."""
        return sum(tensor.nbytes for layer in self._layers for tensor in layer)

    @property
    def num_cached(self) -> int:
        """Return the number of clean blocks whose keys and values are in the cache."""
        return self.num_blocks - self.num_evicted

    @property
    def _surplus(self) -> int:
        """Return the number of cached blocks that have left the window."""
        return 0 if self.window is None else max(0, self.num_cached - self.sinks - self.window)

    def check(self, layout: Layout, batch_size: int, new_blocks: int) -> None:
        """Raise ValueError unless `new_blocks` blocks of this layout and batch size can be added."""
        if layout != self.layout or batch_size != self.batch_size:
            raise ValueError(
                f"the cache is for {self.batch_size} samples of {self.layout}, not {batch_size} of {layout}"
            )
        if self.num_blocks + new_blocks <= self.capacity:
            return
        if self.window is None or self.num_blocks + new_blocks >= layout.num_blocks:
            raise ValueError(
                f"the cache has room for {layout.num_blocks - 1} clean blocks (all but the last) and already "
                f"has {self.num_blocks}, so {new_blocks} more do not fit"
            )
        if new_blocks > 1:  # the first would still see a block that is evicted for the last
            raise ValueError(
                f"the cache has room for {self.sinks} sinks, a window of {self.window} and one new block; "
                f"pass the {new_blocks} new blocks one by one"
            )

    def check_window(self, window: int | None, sinks: int) -> None:
        """Raise ValueError if a call gives another window than that of the cache."""
        if self.window is not None and (window, sinks) not in ((None, 0), (self.window, self.sinks)):
            raise ValueError(
                f"the cache has a window of {self.window} and {self.sinks} sinks; leave out window and "
                f"sinks, or give the same values, not {window} and {sinks}"
            )

    def check_views(self, blocks: Sequence[int], new_blocks: int) -> None:
        """Raise ValueError unless a call may hold views of these blocks together with the new blocks.

        Views must not need blocks that have left the window.
        """
        evicted = self.num_evicted + self._surplus
        if evicted and blocks[0] < evicted + self.sinks + (self.window or 0):
            raise ValueError(f"a view of block {blocks[0]} needs blocks that were evicted from the cache")
        if new_blocks and not self.takes_beside_views(new_blocks):
            raise ValueError("with sinks, pass clean blocks and noised views in separate calls")

    def takes_beside_views(self, new_blocks: int) -> bool:
        """Return whether new clean blocks may share a call with views of the block after them."""
        if self.window is None:
            return True
        if self.sinks:  # sinks can be placed before only one window per call
            return self.num_blocks + new_blocks <= self.sinks + self.window
        return new_blocks == 1 or self.num_blocks + new_blocks <= self.capacity

    def make_room(self) -> None:
        """Evict the blocks that have left the window.

        The keys of the sinks are rotated (RoPE) to the coordinates that they have then.
        """
        surplus, size = self._surplus, self.layout.block_tokens
        if not surplus:
            return
        self.num_evicted += surplus
        sinks, stop = self.sinks * size, self.num_cached * size
        if sinks and not self._first_keys:
            self._first_keys = [layer.key[:, :, :sinks].clone() for layer in self._layers]
        for layer in self._layers:
            for tensor in layer:
                kept = tensor[:, :, sinks + surplus * size : stop + surplus * size].clone()
                tensor[:, :, sinks:stop] = kept
        for layer, keys in zip(self._layers, self._first_keys, strict=False):  # none without sinks
            rotated = self._shift_keys(keys, self.num_evicted * self.layout.block[0])
            layer.key[:, :, :sinks] = rotated

    def read(self, layer: int, new_blocks: int) -> LayerCache:
        """Return one layer's keys and values of the cached and of new blocks, two of (N, H, .. B, D).

        The tensors are not copied. Those of the new blocks are to be written by `LayerCache.write`; after
        every layer has written its own, `advance` counts the blocks.
        """
        stop = self._lead + (self.num_cached + new_blocks) * self.layout.block_tokens
        return LayerCache(*(tensor[:, :, :stop] for tensor in self._layers[layer]))

    def advance(self, new_blocks: int) -> None:
        """Count new blocks as filled, after every layer has written their keys and values."""
        self.num_blocks += new_blocks
