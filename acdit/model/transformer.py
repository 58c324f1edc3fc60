"""ACDiTTransformer: the network, with one forward pass for training, sampling and understanding."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.utils.outputs import BaseOutput
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from .attention import block_mask_for
from .block_network import BlockNetwork
from .conditioning import embed_streams
from .forward_arguments import check_network_arguments, checked_blocks, in_samples, row_scales, state_layers
from .kv_cache import KVCache, check_sinks
from .layers import ACDiTBlock, FinalLayer, LabelEmbedder, Streams, TimestepEmbedder, initialise_as_dit
from .layout import Layout
from .linear import Linear
from .positions import rotary_split, sincos_table
from .rope import Positions, Rotation, block_rows
from .skip_causal_mask import clean_visibility, view_visibility


@dataclass
class ACDiTOutput(BaseOutput):
    """Output of the network.

    Attributes:
        sample: Prediction for every noised view, (N, M, B, C), or logits (N, M, B, vocabulary); None without
            views, and if the states of layers were requested.
        hidden_states: Last layer's states of the given clean blocks, then of the views, (N, P + M, B,
            hidden), if requested; or a tuple of the states of the requested layers.
    """

    sample: Tensor | None = None
    hidden_states: Tensor | tuple[Tensor, ...] | None = None


class ACDiTTransformer(BlockNetwork):
    """Network that predicts noised blocks from the clean blocks before them, for images, video and text.

    It is the network of sections 4.2, 4.3 and 4.5 and Appendix B. The layout is an argument of every call,
    not a property of the network: one network can train and sample with several layouts.

    Args:
        in_channels: Number of channels of a token, patch elements included; None for a network over token
            ids.
        axis_lengths: Number of tokens along each axis that the rotary bases are computed for (Eq. 4). The
            weights depend on these lengths.
        num_layers: Number of layers, see `SIZES`.
        hidden_size: Hidden size, see `SIZES`.
        num_heads: Number of attention heads, see `SIZES`.
        mlp_ratio: Width of the MLP divided by the hidden size.
        num_classes: Number of classes of the label table, without the null label; None = no labels.
        time_conditioning: Whether the network takes timesteps. With neither timesteps nor labels there is no
            adaLN.
        vocab_size: Number of token ids, including the mask, for text.
        rope: Rotary variant: `eq4`, or `published` for the published weights.
        rope_split: Number of dimensions of a head per axis; default: as in section 4.3.
        format_version: Version of the model's format; this acdit reads version 1.
        prediction_type: What the network predicts of continuous data, in diffusers' terms: `epsilon`,
            `v_prediction`, `sample` or `flow_prediction`; None = not recorded. A pipeline records it.
        schedule: Noise schedule that a network over token ids with time conditioning was trained with; None =
            not recorded.
        positions: How tokens get their positions (Fig. 6b): `rope_nd`, `rope_1d` (the whole head is rotated
            by the index in the sequence of blocks), `absolute` (fixed sine-cosine embeddings are added to the
            embedded tokens) or `none`.
        context: Past that views see: `clean` blocks, or `noised` blocks at their own noise levels (Diffusion
            Forcing, arXiv 2407.01392), in one stream; finished blocks then have the timestep 0.

    Raises:
        ValueError: If the arguments do not fit each other.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int | None = None,
        axis_lengths: Sequence[int] = (32, 32),
        num_layers: int = 12,
        hidden_size: int = 768,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        num_classes: int | None = None,
        time_conditioning: bool = True,
        vocab_size: int | None = None,
        rope: Literal["eq4", "published"] = "eq4",
        rope_split: Sequence[int] | None = None,
        format_version: int = 1,
        prediction_type: str | None = None,
        schedule: str | None = None,
        positions: Positions = "rope_nd",
        context: Literal["clean", "noised"] = "clean",
    ):
        super().__init__()
        check_network_arguments(
            in_channels, vocab_size, hidden_size, num_heads, format_version, time_conditioning, context
        )
        axes = len(axis_lengths)
        self._rope_split = rotary_split(positions, rope, rope_split, hidden_size, num_heads, axes)
        conditioned = time_conditioning or num_classes is not None
        if in_channels is not None:
            self.x_embedder = Linear(in_channels, hidden_size, bias=False)
        else:
            assert vocab_size is not None
            self.x_embedder = nn.Embedding(vocab_size, hidden_size)
        self.t_embedder = TimestepEmbedder(hidden_size) if time_conditioning else None
        self.y_embedder = LabelEmbedder(num_classes, hidden_size) if num_classes is not None else None
        mlp_width = int(hidden_size * mlp_ratio)
        self.blocks = nn.ModuleList(
            ACDiTBlock(hidden_size, num_heads, mlp_width, conditioned) for _ in range(num_layers)
        )
        self.final_layer = FinalLayer(hidden_size, in_channels or vocab_size or 0, conditioned)
        self.gradient_checkpointing = False
        initialise_as_dit(self)

    @property
    def context_sees_labels(self) -> bool:
        """Return whether the keys and values of the past depend on labels, so that guidance needs two."""
        return self._noised_context and self.y_embedder is not None

    @property
    def _noised_context(self) -> bool:
        return self.config["context"] == "noised"

    def new_cache(
        self,
        layout: Layout,
        batch_size: int,
        *,
        window: int | None = None,
        sinks: int = 0,
        device: torch.device | None = None,
    ) -> KVCache:
        """Create an empty cache for one batch of sequences, see `KVCache`.

        The default device is that of the network. For a network that is moved to a device only while it
        computes, pass that device.

        Raises:
            UserError: If sinks are not possible, see `check_sinks`.
        """
        if window is not None and sinks:
            check_sinks(layout, self.config)
        device = self.device if device is None else device
        return KVCache(
            layout,
            window=window,
            sinks=sinks,
            turned=partial(self._rotation(self.dtype, device).shifted, layout),
            **self._cache_size(batch_size, device),
        )

    def forward(
        self,
        noised: Tensor | None,
        timestep: Tensor | None = None,
        *,
        layout: Layout,
        blocks: Sequence[int] | None = None,
        clean: Tensor | None = None,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
        cache: KVCache | None = None,
        window: int | None = None,
        sinks: int = 0,
        return_hidden_states: bool | Sequence[int] = False,
        bidirectional: bool = False,
        branch_scale: Tensor | None = None,
        return_dict: bool = True,
    ) -> ACDiTOutput | tuple[Any, ...]:
        """Predict noised views of blocks from the clean blocks before them (SCAM, section 4.2).

        Args:
            noised: Noised views (N, M, B, C) in floating point, or (N, M, B) as token ids; None = only the
                clean stream, to fill a cache. With the context `noised` and neither clean blocks nor cache,
                the first M blocks in order, which see each other.
            timestep: Raw timesteps (N, M) in 0..1000; None without time conditioning.
            layout: Grid of tokens and its blocks.
            blocks: Sorted block indices of the M views, repeats allowed; None = 0..T-1. Guidance uses two
                views of one block.
            clean: Clean blocks (N, P, B, C) or (N, P, B) that follow those in the cache, to which they are
                added. Blocks and outputs that are not used cost nothing.
            labels: Classes or null labels, (N,) or per view (N, M); None = null labels. If the past depends
                on them, clean blocks and cache need one label per sample.
            condition: Vectors (N, hidden) that are added to the condition vector.
            cache: Keys and values of earlier clean blocks.
            window: Number of previous blocks visible to each block; None = all, or the window of a rolling
                cache.
            sinks: Number of first blocks of the sequence that stay visible beyond the window.
            return_hidden_states: Whether to return the last layer's states too; or layers, whose states are
                then returned without a prediction: 0 for the embedded tokens, k for the output of layer k.
            bidirectional: Whether all clean blocks see each other; without views and cache alone.
            branch_scale: Factors of the attention and MLP branches of every layer, (N, num_layers, 2), for
                stochastic depth; None = all 1.
            return_dict: Whether to return an `ACDiTOutput` or a tuple of its values.

        Raises:
            ValueError: If blocks, clean blocks, cache and other arguments do not fit each other.
        """
        blocks = checked_blocks(
            layout,
            noised=noised,
            timestep=timestep,
            blocks=blocks,
            clean=clean,
            cache=cache,
            axes=len(self.config["axis_lengths"]),
            timed=self.t_embedder is not None,
            noised_context=self._noised_context,
            labels=labels if self.context_sees_labels else None,
            window=window,
            sinks=sinks,
        )
        one_stream = self._noised_context and clean is None and cache is None and len(blocks) > 1
        if bidirectional and (
            self._noised_context or noised is not None or cache is not None or window is not None
        ):
            raise ValueError("bidirectional is for clean blocks alone, without views, cache and window")
        new_blocks = 0 if clean is None else clean.shape[1]
        start = evicted = 0
        if cache is not None:
            cache.make_room()
            start, evicted = cache.num_blocks, cache.num_evicted
            if cache.window is not None:
                window, sinks = cache.window, cache.sinks
        layers = state_layers(return_hidden_states, self.config["num_layers"])
        if cache is None and return_hidden_states is False:
            new_blocks = min(new_blocks, max(blocks, default=0))  # later clean blocks are not used

        # not len(): it would fix the batch size of an exported program
        samples = next((part.shape[0] for part in (noised, clean) if part is not None), 1)
        parts: list[Tensor] = []  # clean blocks of all samples, then views of all samples
        if clean is not None and new_blocks:
            parts.append(clean[:, :new_blocks].flatten(0, 1))
        if noised is not None:
            parts.append(noised.flatten(0, 1))
        if not parts:
            raise ValueError("give noised blocks, or clean blocks with a cache or return_hidden_states")
        cached_indices = [block - evicted for block in blocks]  # indices without the evicted blocks
        clean_sees = views_see = None
        if one_stream:  # the views attend to each other as clean blocks do
            clean_sees = clean_visibility(layout.block_tokens, 0, len(blocks), window, sinks)
        else:
            first, size = start - evicted, layout.block_tokens
            if new_blocks:
                clean_sees = clean_visibility(size, first, first + new_blocks, window, sinks, bidirectional)
            if blocks:
                views_see = view_visibility(size, cached_indices, window, sinks)
        # Weights that are offloaded or cast show neither the device nor the dtype of the computation, so take
        # both from the embedding's output.
        x = self.x_embedder(torch.cat(parts) if len(parts) > 1 else parts[0])  # (R, B, hidden)
        backend = self._backend_for(x)
        clean_indices = [*range(start, start + new_blocks)]
        indices = sorted((*clean_indices, *blocks))
        span = range(indices[0], indices[-1] + 1)
        block_of_row = block_rows(tuple(clean_indices), tuple(blocks), samples, x.device)
        rope = self._rotation(x.dtype, x.device).table(layout, span).select(block_of_row)
        if self.config["positions"] == "absolute":
            x = x + sincos_table(x.shape[-1], layout, span, x.dtype, x.device)[block_of_row]
        masks = (block_mask_for(sees, backend, x.device) for sees in (clean_sees, views_see))
        streams = Streams(samples, clean_sees, views_see, rope, backend, *masks)
        conditioned = [] if noised is None else [(noised, timestep)]
        if self._noised_context and new_blocks and clean is not None:  # blocks at timestep 0
            conditioned.insert(0, (clean[:, :new_blocks], None))
        conditions = embed_streams(
            self.t_embedder,
            self.y_embedder,
            self.config["num_classes"],
            conditioned,
            labels,
            condition,
            None if cache is None else cache.conditions,
            x.dtype,
        )

        rows = [part.shape[0] for part in parts]
        scales = None  # (layers, 2, R, 1, 1)
        if branch_scale is not None:
            scales = row_scales(branch_scale.to(x.dtype), rows, (samples, len(self.blocks), 2))
        states = {0: x} if 0 in layers else {}
        # layers whose output nobody reads are not computed; a cache needs the keys of all
        whole = cache is not None or isinstance(return_hidden_states, bool)
        read = self.config["num_layers"] if whole else max(layers)
        for layer, block in enumerate(self.blocks[:read]):
            # true without clean blocks too, so that the last layer then runs the compiled code of the others
            clean_output = one_stream or clean_sees is None or bool(layers) or layer < len(self.blocks) - 1
            cached = None if cache is None else cache.read(layer, new_blocks)
            x = self._runner(block)(
                x, conditions, streams, cached, clean_output, None if scales is None else scales[layer]
            )
            if layer + 1 in layers:
                states[layer + 1] = x
        if cache is not None:
            cache.advance(new_blocks)

        sample = hidden_states = None
        if noised is not None and isinstance(return_hidden_states, bool):
            views = x[-parts[-1].shape[0] :]
            if conditions is not None and self._noised_context:
                conditions = conditions.last(views.shape[0])
            sample = self.final_layer(views, conditions).unflatten(0, noised.shape[:2])
        if layers:
            by_sample = tuple(in_samples(states[layer], samples, rows) for layer in layers)
            hidden_states = by_sample[0] if return_hidden_states is True else by_sample
        return ACDiTOutput(sample, hidden_states) if return_dict else (sample, hidden_states)

    def _rotation(self, dtype: torch.dtype, device: torch.device) -> Rotation:
        wide, lengths = torch.promote_types(dtype, torch.float32), tuple(self.config["axis_lengths"])
        positions: Positions = self.config["positions"]
        if positions != "rope_nd":
            lengths = (math.prod(lengths),)
        return Rotation(lengths, self._rope_split, self.config["rope"], wide, device, positions)


pytree.register_constant(Layout)  # so that torch.export accepts it as an argument
for _public in (ACDiTTransformer, ACDiTOutput):
    _public.__module__ = "acdit"  # saved files refer to this module, so that the code can be moved
