"""BlockNetwork: the base class of generators, which are stacks of `ACDiTBlock`."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..utils.tracing import allow_variants
from .attention import Backend, check_backend, default_backend
from .layout import Layout
from .stored_network import StoredNetwork


class BlockNetwork(StoredNetwork):
    """Base class of networks with a stack of layers: attention backend, compilation, checkpointing."""

    _supports_gradient_checkpointing = True
    _no_split_modules = ["ACDiTBlock"]
    _repeated_blocks = ["ACDiTBlock"]
    # norms, embeddings, conditioning and output: few weights, whose rounding would change every token
    _skip_layerwise_casting_patterns = ["norm", "_embedder", "adaLN_modulation", "final_layer"]

    blocks: nn.ModuleList
    gradient_checkpointing = False
    _backend: Backend | None = None

    @property
    def time_conditioning(self) -> bool:
        """Return whether the network takes timesteps."""
        return self.config["time_conditioning"]

    def check_layout(self, layout: Layout) -> None:
        """Raise UserError if the network cannot generate in the blocks of a layout."""

    def set_attention_backend(self, backend: str | None) -> None:
        """Set the attention backend: `dense`, `split` or `flex`; None = the device's default.

        Raises:
            ValueError: If the backend is unknown, or not available on this device.
        """
        self._backend = None if backend is None else check_backend(backend, self.device, training=False)

    def compile_repeated_blocks(self, *args: Any, **kwargs: Any) -> None:
        """Compile the blocks as in diffusers; each layout and use may have compiled code of its own."""
        allow_variants()
        super().compile_repeated_blocks(*args, **kwargs)

    def _backend_for(self, x: Tensor) -> Backend:
        """Return the attention backend of a call whose embedded tokens are x (.., hidden)."""
        backend = self._backend or default_backend(x.device, x.shape[-1] // self.config["num_heads"])
        if self.training and torch.is_grad_enabled():
            check_backend(backend, x.device, training=True)
        return backend

    def _cache_size(self, batch_size: int, device: torch.device) -> dict[str, Any]:
        """Return the arguments of `KVCache` that follow from the size of the network."""
        return {
            "num_layers": self.config["num_layers"],
            "batch_size": batch_size,
            "num_heads": self.config["num_heads"],
            "head_dim": self.config["hidden_size"] // self.config["num_heads"],
            "dtype": self.dtype,
            "device": device,
        }

    def _runner(self, block: nn.Module) -> Callable[..., Any]:
        """Return a layer, or with gradient checkpointing the function that recomputes it."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return partial(cast(Callable[..., Any], self._gradient_checkpointing_func), block)
        return block
