"""CausalTokenDiffusion: a causal backbone with a small diffusion head per token, as a baseline of ACDiT."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..utils.errors import UserError
from .attention import block_mask_for
from .block_network import BlockNetwork
from .forward_arguments import checked_blocks
from .kv_cache import KVCache
from .layers import NORM_EPS, ACDiTBlock, LabelEmbedder, ModulatedNorm, Streams, initialise_as_dit
from .layout import Layout, check_token_blocks
from .linear import Linear
from .rope import Rotation, block_rows, check_split, default_split
from .skip_causal_mask import clean_visibility
from .token_head_layers import TokenHead
from .transformer import ACDiTOutput, ACDiTTransformer

HEAD_LAYERS = 3  # default number of layers of the head


class TokenCache(KVCache):
    """Cache of a causal backbone, with the vectors that condition the head for the token that comes next.

    The keys and values begin with those of the start token. The vectors are computed when the token before
    arrives, and serve all diffusion steps of their token.

    Attributes:
        condition: Vectors (N, 1, head size) of token `num_blocks`; None before the first call.
    """

    condition: Tensor | None = None


class CausalTokenDiffusion(BlockNetwork):
    """Causal backbone with a small diffusion head for each token, as the causal variant of MAR (2406.11838).

    The backbone reads clean tokens one after the other, a start token first; its state after token i - 1 has
    seen the class and all tokens before token i. The head denoises token i given this state alone. So the
    backbone runs once per token, and the head once per token and diffusion step. A call has the arguments of
    `ACDiTTransformer`, with blocks of one token.

    Args:
        in_channels: Number of channels of a token, patch elements included.
        axis_lengths: Number of tokens along each axis that the rotary bases are computed for (Eq. 4).
        num_layers: Number of layers of the backbone, see `SIZES`.
        hidden_size: Hidden size of the backbone.
        num_heads: Number of attention heads.
        mlp_ratio: Width of the backbone's MLP divided by the hidden size.
        num_classes: Number of classes of the label table, without the null label; None = no labels.
        head_layers: Number of layers of the head.
        head_size: Hidden size of the head; None = that of the backbone.
        rope_split: Number of dimensions of a head per axis; default: as in section 4.3.
        format_version: Version of the model's format; this acdit reads version 1.
        prediction_type: What the network predicts, in diffusers' terms, see `ACDiTTransformer`.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int,
        axis_lengths: Sequence[int] = (32, 32),
        num_layers: int = 12,
        hidden_size: int = 768,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        num_classes: int | None = None,
        head_layers: int = HEAD_LAYERS,
        head_size: int | None = None,
        rope_split: Sequence[int] | None = None,
        format_version: int = 1,
        prediction_type: str | None = None,
    ):
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"num_heads must divide hidden_size {hidden_size}; {num_heads} does not")
        if head_layers < 1 or (head_size is not None and head_size < 1):
            raise ValueError(
                f"head_layers and head_size must be at least 1, but are {head_layers} and {head_size}"
            )
        if format_version != 1:
            raise ValueError(
                f"this model has format version {format_version}; this acdit reads version 1: upgrade acdit"
            )
        head_dim, axes = hidden_size // num_heads, len(axis_lengths)
        self._rope_split = tuple(rope_split) if rope_split is not None else default_split(head_dim, axes)
        check_split(self._rope_split, head_dim, axes)
        self.x_embedder = Linear(in_channels, hidden_size, bias=False)
        self.start_embedder = nn.Embedding(1, hidden_size)
        self.y_embedder = LabelEmbedder(num_classes, hidden_size) if num_classes is not None else None
        mlp_width = int(hidden_size * mlp_ratio)
        self.blocks = nn.ModuleList(
            ACDiTBlock(hidden_size, num_heads, mlp_width, conditioned=False) for _ in range(num_layers)
        )
        self.norm_final = ModulatedNorm(hidden_size, eps=NORM_EPS)
        self.head = TokenHead(in_channels, hidden_size, head_size or hidden_size, head_layers)
        self.gradient_checkpointing = False
        initialise_as_dit(self)

    @property
    def context_sees_labels(self) -> bool:
        """Return whether the keys and values of the past depend on labels, so that guidance needs two."""
        return self.y_embedder is not None

    @property
    def time_conditioning(self) -> bool:
        """Return whether the network takes timesteps, which its head always does."""
        return True

    def check_layout(self, layout: Layout) -> None:
        """Raise UserError unless the blocks of a layout are single tokens."""
        check_token_blocks(layout)

    def new_cache(
        self,
        layout: Layout,
        batch_size: int,
        *,
        window: int | None = None,
        sinks: int = 0,
        device: torch.device | None = None,
    ) -> TokenCache:
        """Create an empty cache for one batch of sequences, see `ACDiTTransformer.new_cache`.

        Raises:
            UserError: If the layout has other blocks than single tokens, or a window is given.
        """
        self.check_layout(layout)
        if window is not None or sinks:
            raise UserError(
                "a model with a diffusion head per token has no window: leave out window and sinks, and "
                "generate no more frames than in training"
            )
        device = self.device if device is None else device
        return TokenCache(
            layout,
            turned=partial(self._rotation(self.dtype, device).shifted, layout),
            lead=1,
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
        cache: KVCache | None = None,
        return_dict: bool = True,
    ) -> ACDiTOutput | tuple[Any, ...]:
        """Predict noised tokens from the states of the backbone after the clean tokens before them.

        Args:
            noised: Noised tokens (N, M, 1, C); None = only the backbone, to fill a cache.
            timestep: Raw timesteps (N, M) in 0..1000.
            layout: Grid of tokens, with blocks of one token.
            blocks: Sorted indices of the M tokens, repeats allowed; None = 0..T-1. With a cache, none may lie
                before its tokens.
            clean: Clean tokens (N, P, 1, C) that follow those in the cache, to which they are added.
            labels: Classes or null labels (N,); None = null labels. The backbone has one label for all tokens
                and noise draws of a sample: of labels per view (N, M), that of the first view. A cache keeps
                the labels of its first call.
            cache: Cache of this network, see `new_cache`.
            return_dict: Whether to return an `ACDiTOutput` or a tuple of its values.

        Raises:
            ValueError: If the layout, tokens, cache and other arguments do not fit each other.
        """
        self.check_layout(layout)
        if cache is not None and not isinstance(cache, TokenCache):
            raise ValueError("the cache belongs to another kind of network: use new_cache of this one")
        blocks = checked_blocks(
            layout,
            noised=noised,
            timestep=timestep,
            blocks=blocks,
            clean=clean,
            cache=cache,
            axes=len(self.config["axis_lengths"]),
            timed=True,
            noised_context=False,
            labels=None,  # of labels per view, the first counts
            window=None,
            sinks=0,
        )
        first = 0 if cache is None else cache.num_blocks
        if blocks and blocks[0] < first:
            raise ValueError(
                f"the cache holds no state for token {blocks[0]}, only for tokens from {first} on"
            )
        if noised is None and cache is None:
            raise ValueError("give noised tokens, or clean tokens with a cache")
        if cache is None and clean is not None:
            clean = clean[:, : max(blocks)]  # later clean tokens are not used
        condition = self._condition(clean, labels, layout, cache, noised)  # of tokens from `first` on
        sample = None
        if noised is not None and timestep is not None:
            rows = block_rows(blocks, (), 1, condition.device)  # from the first of `blocks` on
            condition = condition[:, blocks[0] - first :].index_select(1, rows)  # (N, M, size)
            memo = None if cache is None else cache.conditions
            sample = self.head(noised, timestep, condition, memo)
        return ACDiTOutput(sample) if return_dict else (sample,)

    def _condition(
        self,
        clean: Tensor | None,
        labels: Tensor | None,
        layout: Layout,
        cache: TokenCache | None,
        noised: Tensor | None,
    ) -> Tensor:
        """Return the vectors (N, 1 + P, size) that condition the head, for the next token and those after P.

        The backbone runs only for tokens that are not in the cache.
        """
        kept = None if cache is None else cache.condition
        given = clean is not None and clean.shape[1] > 0
        if kept is not None and not given:
            return kept
        start = None
        if kept is None:
            example = noised if noised is not None else clean
            assert example is not None
            start = self._start(example.shape[0], labels, example.device)  # (N, 1, hidden)
        states = self.states(clean if given else None, start, layout, cache)
        condition = self.head.state_embedder(states)
        if cache is not None:
            cache.condition = condition[:, -1:]
        return condition if kept is None else torch.cat((kept, condition), dim=1)

    def _start(self, samples: int, labels: Tensor | None, device: torch.device) -> Tensor:
        """Return the start token (N, 1, hidden), with the embedding of the class if there are classes."""
        start = self.start_embedder(torch.zeros(samples, 1, dtype=torch.long, device=device))
        if self.y_embedder is None:
            if labels is not None:
                raise ValueError("labels were given, but the network has no classes (num_classes)")
            return start
        if labels is None:
            labels = torch.full((samples,), self.config["num_classes"], device=device)
        return start + self.y_embedder(labels.reshape(samples, -1)[:, :1])

    def states(
        self, clean: Tensor | None, start: Tensor | None, layout: Layout, cache: TokenCache | None
    ) -> Tensor:
        """Return the states of the backbone after a start token (N, 1, hidden) and clean tokens.

        The state that predicts token i has the position (RoPE-ND) of token i.

        Args:
            clean: Clean tokens (N, P, 1, C) that follow those in the cache, or None.
            start: Start token, unless the cache already holds its keys; None = it does.
            layout: Layout of the tokens.
            cache: Keys and values of earlier tokens, to which those of these tokens are added.

        Returns:
            States (N, S, hidden) of the S given tokens, the start token included.
        """
        parts = [] if start is None else [start]
        if clean is not None:
            embedded = self.x_embedder(clean.flatten(1, 2))  # (N, P, hidden)
            parts = [*(part.to(embedded.dtype) for part in parts), embedded]
        elif start is not None and self.training:  # no tokens, so that the gradient of the embedder is zero
            nothing = start.new_zeros(len(start), 0, self.config["in_channels"])
            parts = [start, self.x_embedder(nothing).to(start.dtype)]
        x = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        samples, count = x.shape[:2]
        first = 0 if start is not None or cache is None else cache.num_blocks + 1
        indices = range(first, first + count)
        rotation = self._rotation(x.dtype, x.device)
        rope = rotation.table(layout, indices).select(block_rows(tuple(indices), (), samples, x.device))
        backend = self._backend_for(x)
        sees = clean_visibility(1, indices.start, indices.stop)
        streams = Streams(samples, sees, None, rope, backend, block_mask_for(sees, backend, x.device))
        x = x.reshape(samples * count, 1, -1)
        added = 0 if clean is None else clean.shape[1]
        for layer, block in enumerate(self.blocks):
            cached = None if cache is None else cache.read(layer, added)
            x = self._runner(block)(x, None, streams, cached, True)
        if cache is not None:
            cache.advance(added)
        return self.norm_final(x).reshape(samples, count, -1)

    def _rotation(self, dtype: torch.dtype, device: torch.device) -> Rotation:
        wide, lengths = torch.promote_types(dtype, torch.float32), tuple(self.config["axis_lengths"])
        return Rotation(lengths, self._rope_split, "eq4", wide, device)


GeneratorNetwork = ACDiTTransformer | CausalTokenDiffusion

CausalTokenDiffusion.__module__ = "acdit"  # saved files refer to this module, so that the code can be moved
