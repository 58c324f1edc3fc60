"""The floor that arithmetic sets: the FLOPs that must be done over the best rate of matrix products."""

from dataclasses import replace

from ..model.flops import Dimensions, forward_flops, sampling_flops
from ..model.layout import Layout
from ..model.matmul_rate import Product


def linear_products(model: Dimensions, rows: int) -> list[Product]:
    """The products of a layer's linear maps over so many tokens."""
    hidden, width = model.hidden_size, model.mlp_width
    pairs = ((hidden, 3 * hidden), (hidden, hidden), (hidden, width), (width, hidden))
    return [(1, rows, inner, columns) for inner, columns in pairs]


def score_products(model: Dimensions, layout: Layout, batch: int) -> list[Product]:
    """The products of one block's queries with the keys of one block, of half of them, and of all."""
    head_dim = model.hidden_size // model.num_heads
    counts = {1, max(1, layout.num_blocks // 2), layout.num_blocks}
    size, heads = layout.block_tokens, batch * model.num_heads
    return [(heads, size, head_dim, count * size) for count in sorted(counts)]


def generation_flops(
    model: Dimensions, layout: Layout, *, batch: int, steps: int, labels: int, guided: bool
) -> int:
    """FLOPs that must be done to generate a batch block by block with a cache.

    adaLN's vectors count once for every pair of timestep and label, which all blocks have in common.

    Args:
        model: the network.
        layout: of the samples.
        batch: samples.
        steps: solver steps per block.
        labels: different labels among the samples, null left out.
        guided: whether guidance adds a branch with the null label.
    """
    timeless = replace(model, time_conditioning=False)
    bare = replace(timeless, num_classes=None)
    one, without_time, without_conditions = (
        forward_flops(network, layout, blocks=(0,)) for network in (model, timeless, bare)
    )
    conditions = steps * (one - without_time + (labels + guided) * (without_time - without_conditions))
    return conditions + batch * sampling_flops(bare, layout, [steps] * layout.num_blocks, guided=guided)


def attention_flops(model: Dimensions, layout: Layout, *, batch: int, backward: bool) -> int:
    """FLOPs of one layer's attention in a training step: all clean blocks but the last, and all views.

    SCAM is counted exactly, and the backward as two forwards.
    """
    blocks = layout.num_blocks
    pairs = sum(range(1, blocks)) + sum(range(1, blocks + 1))  # blocks of queries with blocks of keys
    return batch * (3 if backward else 1) * pairs * 2 * 2 * model.hidden_size * layout.block_tokens**2


def published_training_flops(model: Dimensions, layout: Layout, *, batch: int) -> int:
    """FLOPs of the published computation's forward and backward: the whole square of 2 L tokens."""
    tokens = layout.num_tokens
    return 3 * batch * _published_flops(model, 2 * tokens, tokens, 2 * tokens, layout.num_blocks)


def published_sampling_flops(
    model: Dimensions, layout: Layout, *, batch: int, steps: int, guided: bool
) -> int:
    """FLOPs of the published computation's sampling: both branches in full, conditions at every step."""
    size, total = layout.block_tokens, 0
    for block in range(layout.num_blocks):
        keys = (block + 1) * size
        total += _published_flops(model, (2 if block else 1) * size, size, keys, 1)
        total += (steps - 1) * _published_flops(model, size, size, keys, 1)
    return batch * (2 if guided else 1) * total


def _published_flops(model: Dimensions, tokens: int, noised: int, keys: int, vectors: int) -> int:
    """FLOPs of one pass of tokens, each over so many keys, with as many condition vectors."""
    hidden = model.hidden_size
    layer = 2 * tokens * hidden * (4 * hidden + 2 * model.mlp_width + 2 * keys)
    ends = 2 * (tokens + noised) * model.in_channels * hidden
    conditions = 2 * vectors * hidden * ((6 * model.num_layers + 2) * hidden + model.time_width + hidden)
    return model.num_layers * layer + ends + conditions
