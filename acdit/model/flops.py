"""Counts of FLOPs, bytes and parameters, from the layout and the configuration alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

from .layout import Layout


@dataclass(frozen=True)
class Dimensions:
    """Dimensions of a network, as the counts need them.

    For a network over token ids, `in_channels` is the size of the vocabulary.
    """

    in_channels: int
    num_layers: int
    hidden_size: int
    num_heads: int
    mlp_width: int
    num_classes: int | None
    time_conditioning: bool
    discrete: bool = False
    time_width: int = 256
    positions: str = "rope_nd"
    context: str = "clean"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Dimensions":
        """Create the dimensions from the config of an `ACDiTTransformer`.

        The config of a network over continuous values may omit `vocab_size`, and that of an earlier version
        `positions` and `context`.
        """
        return cls(
            config["in_channels"] or config["vocab_size"],
            config["num_layers"],
            config["hidden_size"],
            config["num_heads"],
            int(config["hidden_size"] * config["mlp_ratio"]),
            config["num_classes"],
            config["time_conditioning"],
            discrete=config.get("vocab_size") is not None,
            positions=config.get("positions", "rope_nd"),
            context=config.get("context", "clean"),
        )

    @property
    def conditioned(self) -> bool:
        """Return whether the network is conditioned on timesteps or labels."""
        return self.time_conditioning or self.num_classes is not None

    @property
    def context_sees_labels(self) -> bool:
        """Return whether the past depends on labels, so that guidance computes it twice."""
        return self.context == "noised" and self.num_classes is not None


def parameters(model: Dimensions) -> int:
    """Return the number of parameters of the network."""
    hidden, width, head = model.hidden_size, model.mlp_width, model.hidden_size // model.num_heads
    attention = 4 * hidden * hidden + 4 * hidden + 2 * head  # qkv, projection, QK-norm
    mlp = 2 * hidden * width + width + hidden
    layer = attention + mlp + 2 * hidden  # the last term: two norms
    total = model.in_channels * hidden
    if model.conditioned:
        layer += 6 * hidden * (hidden + 1)
    if model.time_conditioning:
        total += (model.time_width + 1) * hidden + (hidden + 1) * hidden
    if model.num_classes is not None:
        total += (model.num_classes + 1) * hidden
    return total + model.num_layers * layer + final_parameters(model)


def final_parameters(model: Dimensions) -> int:
    """Return the number of parameters of the final layer."""
    hidden = model.hidden_size
    modulation = 2 * hidden * (hidden + 1) if model.conditioned else 0
    return hidden + (hidden + 1) * model.in_channels + modulation


def seen_blocks(blocks: Sequence[int]) -> int:
    """Return the total number of key blocks that noised views see: their own and the earlier clean ones."""
    return sum(block + 1 for block in blocks)


def forward_flops(
    model: Dimensions,
    layout: Layout,
    *,
    blocks: Sequence[int] | None = None,
    cached: int = 0,
    clean: int | None = None,
) -> int:
    """Return the FLOPs of one forward pass of one sample.

    The matrix products are counted, SCAM exactly, and a multiply-add counts as two.

    Args:
        model: Dimensions of the network.
        layout: Layout of the sample.
        blocks: Blocks of the noised views; None = all.
        cached: Number of clean blocks that are already in the cache.
        clean: Number of clean blocks that are given; None = those that the views need: none in training with
            noised context, where views see each other instead.
    """
    views = range(layout.num_blocks) if blocks is None else blocks
    given = max(0, max(views, default=0) - cached) if clean is None else clean
    if model.context == "noised" and clean is None and not cached:
        given = 0
    tokens, hidden, width = layout.block_tokens, model.hidden_size, model.mlp_width
    after_keys = 2 * 2 * hidden * hidden + 2 * 2 * hidden * width  # query, projection and MLP
    keys = 2 * 2 * hidden * hidden
    pair = 2 * 2 * hidden * tokens * tokens  # scores and weighted sum, one query block over one key block
    clean_pairs = sum(cached + index + 1 for index in range(given))
    view_layer = len(views) * tokens * (keys + after_keys) + seen_blocks(views) * pair
    clean_full = given * tokens * (keys + after_keys) + clean_pairs * pair
    clean_last = given * tokens * keys  # the last layer's clean outputs are not used
    embedded = 0 if model.discrete else given + len(views)  # token ids are looked up in a table
    ends = (embedded + len(views)) * tokens * 2 * model.in_channels * hidden
    conditions = 0
    vectors = len(views) + (given if model.context == "noised" else 0)
    if model.conditioned:
        conditions += 2 * hidden * hidden * (vectors * 6 * model.num_layers + len(views) * 2)
    if model.time_conditioning:
        conditions += vectors * 2 * hidden * (model.time_width + hidden)
    layers = model.num_layers * view_layer + (model.num_layers - 1) * clean_full + clean_last
    return layers + ends + conditions


def training_flops(
    model: Dimensions,
    layout: Layout,
    *,
    draws: int = 1,
    views: int | None = None,
    checkpointing: bool = False,
) -> float:
    """Return the FLOPs of a forward and a backward pass of one sample.

    The result is the mean over the blocks that a training step may noise. The backward pass counts as two
    forward passes, and gradient checkpointing as one more.

    Args:
        model: Dimensions of the network.
        layout: Layout of the sample.
        draws: Number of noise draws per block.
        views: Number of blocks that are noised, drawn at random; None = all.
        checkpointing: Whether activations are recomputed.
    """
    forward = mean_over_views(
        layout, lambda blocks: forward_flops(model, layout, blocks=blocks), draws=draws, views=views
    )
    return (4 if checkpointing else 3) * forward


def mean_over_views(
    layout: Layout, cost: Callable[[Sequence[int]], int], *, draws: int, views: int | None
) -> float:
    """Return the mean cost over the blocks that a training step may noise.

    Args:
        layout: Layout of the sample.
        cost: Cost of the views of some blocks: a linear function of the sum of their indices, for a given
            number of views and a given last block.
        draws: Number of noise draws per block.
        views: Number of blocks that are noised, drawn at random; None = all.
    """
    blocks = layout.num_blocks
    count = blocks if views is None else min(views, blocks)
    total = 0
    for last in range(count - 1, blocks):
        # the mean of the sum of the other blocks' indices over all choices is its mean over the lowest and
        # the highest choice
        for others in (range(count - 1), range(last - count + 1, last)):
            drawn = [block for block in (*others, last) for _ in range(draws)]
            total += comb(last, count - 1) * cost(drawn)
    return total / (2 * comb(blocks, count))


def activation_bytes(
    model: Dimensions,
    layout: Layout,
    *,
    half: bool,
    draws: int = 1,
    views: int | None = None,
    checkpointing: bool = False,
) -> int:
    """Estimate the bytes per sample that autograd keeps from the forward to the backward pass.

    With randomly drawn views, the result is the maximum. The estimate adds up the tensors that a layer saves,
    in vectors of the hidden size (w: of the MLP's width), whose values take 2 bytes under bf16 autocast,
    else 4:

        token      inputs and outputs of 2 norms, the projection's query, key and value, rotated query and
                   key, attention output, the same joined over both streams, 2 branches, 2 w
        attention  key and value, joined for the noised tokens
        block      6 adaLN vectors, and for a view the condition after SiLU

    In the last layer, clean tokens yield only keys and values. Gradient checkpointing keeps the inputs of
    every layer and, during the backward pass, all tensors of one layer. The entry for attention is that of
    one call over joined keys, as in FlexAttention; attention on the CPU keeps no joined keys. Weights in bf16
    are not counted here.
    """
    blocks = layout.num_blocks
    count = blocks if views is None else min(views, blocks)
    # the most expensive choice of blocks includes the last one
    given = 0 if model.context == "noised" else blocks - 1
    noised, clean = count * draws * layout.block_tokens, given * layout.block_tokens
    value = 2 if half else 4
    hidden, width = model.hidden_size * value, model.mlp_width * value
    joined = 0 if model.context == "noised" else (noised + clean) * 2 * hidden
    token = (13 if given else 12) * hidden + 2 * width
    vectors = (7 * count * draws + 6 * given) * hidden if model.conditioned else 0
    layer = (noised + clean) * token + joined + vectors
    last = noised * (12 * hidden + 2 * width) + clean * 5 * hidden + joined + vectors
    inputs = (noised + clean) * hidden
    given_values = 8 if model.discrete else value * model.in_channels  # bytes of a clean token
    ends = noised * (2 * hidden + (8 + 2 * value) * model.in_channels) + clean * given_values
    if checkpointing:
        return model.num_layers * inputs + (layer if model.num_layers > 1 else last) + ends
    return (model.num_layers - 1) * layer + last + ends


def sampling_flops(model: Dimensions, layout: Layout, steps: Sequence[int], *, guided: bool) -> int:
    """Return the FLOPs of generating one sample with a cache.

    `steps` holds the number of sampling steps of each block. With guidance, both branches are counted.
    """
    if guided and model.context_sees_labels:  # each branch has a past of its own
        return 2 * sampling_flops(model, layout, steps, guided=False)
    total = 0
    for block, count in enumerate(steps):
        views = (block,) * (2 if guided else 1)
        with_clean = forward_flops(model, layout, blocks=views, cached=max(0, block - 1), clean=min(block, 1))
        total += with_clean + (count - 1) * forward_flops(model, layout, blocks=views, cached=block, clean=0)
    return total


def cache_bytes(model: Dimensions, layout: Layout, bytes_per_value: int = 4, *, guided: bool = False) -> int:
    """Return the bytes of the keys and values of one sample, for all blocks but the last."""
    branches = 2 if guided and model.context_sees_labels else 1
    return (
        2
        * branches
        * model.num_layers
        * (layout.num_blocks - 1)
        * layout.block_tokens
        * model.hidden_size
        * bytes_per_value
    )
