"""Inputs and outputs of the network in a generation, for both branches of classifier-free guidance."""

from typing import Any

import torch
from torch import Tensor

from ..model.kv_cache import KVCache
from ..model.layout import Layout
from ..model.token_head import GeneratorNetwork
from ..utils.errors import UserError


class Branches:
    """Network of a generation, evaluated for the labels and, under guidance, for the null labels.

    If the past does not depend on labels, the branches are two views of one block and use one cache. If it
    does (`context_sees_labels`), each branch needs a past of its own: the batch is doubled, the labels before
    the null labels, and every call evaluates both.

    Args:
        model: Network, an `ACDiTTransformer` or a `CausalTokenDiffusion`.
        layout: Layout of the samples.
        labels: Classes (N,); None = unconditional.
        guided: Whether guidance may act.
        dtype: Data type of predictions; logits keep that of the network.

    Raises:
        UserError: If labels are given for a network without classes.
    """

    def __init__(
        self,
        model: GeneratorNetwork,
        layout: Layout,
        labels: Tensor | None,
        *,
        guided: bool,
        dtype: torch.dtype,
    ):
        self.model, self.layout, self.dtype = model, layout, dtype
        self.network_dtype = model.dtype
        """Data type of the network; looked up once, because this walks all modules."""
        self.cache: KVCache | None = None
        """Current cache of keys and values; None before `open_cache` and for a layout of one block."""
        self._shared_past = not model.context_sees_labels
        self._copies = 2 if guided and labels is not None and not self._shared_past else 1
        self._labels = self._of_branches(labels)

    def relabel(self, labels: Tensor | None) -> None:
        """Change the classes (N,) of the blocks that follow; None = unconditional.

        Raises:
            UserError: If the past that the network sees depends on the classes.
        """
        if not self._shared_past:
            raise UserError(
                "the class cannot change from block to block, because the past that this model sees depends "
                "on it: give one class for all blocks"
            )
        self._labels = self._of_branches(labels)

    def _of_branches(self, labels: Tensor | None) -> Tensor | None:
        """Return the labels of both views (N, 2), or of the rows of the doubled batch (N or 2N,)."""
        if labels is None:
            return None
        null_label = self.model.config["num_classes"]
        if null_label is None:
            raise UserError("labels were given, but the model was trained without classes")
        both = labels, torch.full_like(labels, null_label)
        return torch.stack(both, dim=1) if self._shared_past else torch.cat(both[: self._copies])

    def open_cache(self, samples: int, window: int | None, sinks: int, device: torch.device) -> None:
        """Create the cache of a generation; a layout of one block needs none."""
        if self.layout.num_blocks > 1:
            rows = samples * self._copies
            self.cache = self.model.new_cache(self.layout, rows, window=window, sinks=sinks, device=device)

    def fill_cache(self, pending: Tensor) -> Tensor | None:
        """Write clean blocks (N, P, B, C) to the cache until the others may share a call with the next views.

        Return the others, or None if there are none.
        """
        if self.cache is None:
            return pending
        blocks = list(pending.split(1, dim=1))
        while blocks and not self.cache.takes_beside_views(len(blocks)):
            clean = self._for_network(blocks.pop(0))
            labels = None if self._shared_past else self._labels
            self.model(None, layout=self.layout, clean=clean, labels=labels, cache=self.cache)
        return torch.cat(blocks, dim=1) if blocks else None

    def arguments(
        self, sample: Tensor, timestep: Tensor, block: int, clean: Tensor | None, scale: float
    ) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
        """Return the arguments of a call of the network, by position and by name.

        Args:
            sample: Noised block (N, B, C), or tokens (N, B).
            timestep: Timestep of the solver, a scalar.
            block: Index of the block.
            clean: Clean blocks (N, P, B, C) that are added to the cache, or None.
            scale: Guidance scale; 1 = the conditional branch alone.

        Raises:
            UserError: If guidance begins when the cache already holds the past of one branch alone.
        """
        inputs = self._for_network(sample)
        labels, views = self._labels, 1
        if self._shared_past and labels is not None:
            views = 1 if scale == 1.0 else 2
            labels = labels[:, :views]
        elif scale != 1.0 and self._copies == 1:
            raise UserError(
                "guidance cannot begin after the first step, because the past that this model sees depends "
                "on the class; begin with a guidance scale other than 1"
            )
        views_of_rows = (
            inputs.unsqueeze(1).expand(-1, views, *inputs.shape[1:]),  # (N or 2N, 1 or 2, B, C)
            timestep.expand(inputs.shape[0], views),
        )
        return views_of_rows, {
            "layout": self.layout,
            "blocks": (block,) * views,
            "clean": None if clean is None else self._for_network(clean),
            "labels": labels,
            "cache": self.cache,
        }

    def combined(self, output: Tensor, scale: float) -> Tensor:
        """Return the guided prediction, uncond + s (cond - uncond).

        Args:
            output: Output of the network, (N or 2N, 1 or 2, B, C), or logits (.., B, V).
            scale: Guidance scale s; 1 = the conditional branch alone.

        Returns:
            Prediction (N, B, C), or logits (N, B, V).
        """
        output = output.to(self.dtype) if self.dtype.is_floating_point else output
        if not self._shared_past:
            output = output.unflatten(0, (self._copies, -1)).transpose(0, 1).squeeze(2)
        branches = output.unbind(1)  # 1 or 2 of (N, B, C)
        return branches[0] if scale == 1.0 else torch.lerp(branches[1], branches[0], scale)

    def _for_network(self, values: Tensor) -> Tensor:
        """Return values or tokens (N, ..) in the dtype of the network and for its rows, (N or 2N, ..)."""
        values = values.to(self.network_dtype) if self.dtype.is_floating_point else values
        return values if self._copies == 1 else torch.cat([values] * self._copies)
