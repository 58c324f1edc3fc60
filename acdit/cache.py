"""KVCache: keys and values of the clean blocks so far, preallocated, written in place, passed along."""

import torch
from torch import Tensor

from .conditions import ConditionMemo
from .layout import Layout


class KVCache:
    """What later blocks need to know of the clean past, for every layer.

    Clean tokens see neither timestep nor label nor noise, so one cache serves every diffusion step and both
    branches of classifier-free guidance. The last block of a layout is never attended to, so it has no place
    here. Beside them lies what blocks repeat: `conditions`, the vectors of timesteps and labels.

    Args:
        layout: the layout that the blocks belong to.
        num_layers, batch_size, num_heads, head_dim: shape of what is stored.
        dtype, device: of the stored tensors.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        num_layers: int,
        batch_size: int,
        num_heads: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        self.layout = layout
        self.batch_size = batch_size
        self.capacity = layout.num_blocks - 1
        self.num_blocks = 0
        self.conditions = ConditionMemo()
        shape = (2, num_layers, batch_size, num_heads, self.capacity * layout.block_tokens, head_dim)
        self._store = torch.empty(shape, dtype=dtype, device=device)  # (2, layers, N, H, L, D)

    @property
    def nbytes(self) -> int:
        """Bytes that are held, filled or not."""
        return self._store.nbytes

    def check(self, layout: Layout, batch_size: int, new_blocks: int) -> None:
        """Raise ValueError unless `new_blocks` blocks of this layout and batch may follow."""
        if layout != self.layout or batch_size != self.batch_size:
            raise ValueError(
                f"cache is for {self.batch_size} samples of {self.layout}, not {batch_size} of {layout}"
            )
        if self.num_blocks + new_blocks > self.capacity:
            raise ValueError(
                f"cache has room for {self.capacity} clean blocks (all but the last), has {self.num_blocks}: "
                f"{new_blocks} more do not fit"
            )

    def write(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Put one layer's keys and values (N, H, P B, D) behind the filled blocks; `advance` counts them."""
        start = self.num_blocks * self.layout.block_tokens
        self._store[0, layer, :, :, start : start + key.shape[2]] = key
        self._store[1, layer, :, :, start : start + key.shape[2]] = value

    def read(self, layer: int, num_blocks: int) -> tuple[Tensor, Tensor]:
        """One layer's keys and values of the first blocks, without a copy: two of (N, H, num_blocks B, D)."""
        stop = num_blocks * self.layout.block_tokens
        return self._store[0, layer, :, :, :stop], self._store[1, layer, :, :, :stop]

    def advance(self, new_blocks: int) -> None:
        """Count blocks whose keys and values every layer has written."""
        self.num_blocks += new_blocks
