"""Roofline: lower bound on the time, the required FLOPs over the best rate of matrix products."""

from dataclasses import replace

from ..model.flops import Dimensions, forward_flops, sampling_flops
from ..model.layout import Layout
from ..model.matmul_rate import Product


def linear_products(model: Dimensions, rows: int) -> list[Product]:
    """Return the matrix products of a layer's linear maps over `rows` tokens."""
    hidden, width = model.hidden_size, model.mlp_width
    pairs = ((hidden, 3 * hidden), (hidden, hidden), (hidden, width), (width, hidden))
    return [(1, rows, inner, columns) for inner, columns in pairs]


def score_products(model: Dimensions, layout: Layout, batch: int) -> list[Product]:
    """Return the products of one block's queries with the keys of one block, half the blocks, and all."""
    head_dim = model.hidden_size // model.num_heads
    counts = {1, max(1, layout.num_blocks // 2), layout.num_blocks}
    size, heads = layout.block_tokens, batch * model.num_heads
    return [(heads, size, head_dim, count * size) for count in sorted(counts)]


def generation_flops(
    model: Dimensions, layout: Layout, *, batch: int, steps: int, labels: int, guided: bool
) -> int:
    """Count the FLOPs that are required to generate a batch block by block with a cache.

    adaLN's vectors count once for every pair of timestep and label, because all blocks share them.

    Args:
        model: dimensions of the network.
        layout: layout of the samples.
        batch: number of samples.
        steps: number of solver steps per block.
        labels: number of different labels among the samples, without the null label.
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
    """Count the FLOPs of one layer's attention in a training step.

    All clean blocks but the last and all views are counted. SCAM is counted exactly, and the backward pass as
    two forward passes.
    """
    blocks = layout.num_blocks
    pairs = sum(range(1, blocks)) + sum(range(1, blocks + 1))  # pairs of query block and key block
    return batch * (3 if backward else 1) * pairs * 2 * 2 * model.hidden_size * layout.block_tokens**2


def published_training_flops(model: Dimensions, layout: Layout, *, batch: int) -> int:
    """Count the FLOPs of the published forward and backward pass: the whole square of 2 L tokens."""
    tokens = layout.num_tokens
    return 3 * batch * _published_flops(model, 2 * tokens, tokens, 2 * tokens, layout.num_blocks)


def published_sampling_flops(
    model: Dimensions, layout: Layout, *, batch: int, steps: int, guided: bool
) -> int:
    """Count the FLOPs of the published sampling: both branches in full, conditions at every step."""
    size, total = layout.block_tokens, 0
    for block in range(layout.num_blocks):
        keys = (block + 1) * size
        total += _published_flops(model, (2 if block else 1) * size, size, keys, 1)
        total += (steps - 1) * _published_flops(model, size, size, keys, 1)
    return batch * (2 if guided else 1) * total


def _published_flops(model: Dimensions, tokens: int, noised: int, keys: int, vectors: int) -> int:
    """Count the FLOPs of one pass of `tokens`, each over `keys`, with `vectors` condition vectors."""
    hidden = model.hidden_size
    layer = 2 * tokens * hidden * (4 * hidden + 2 * model.mlp_width + 2 * keys)
    ends = 2 * (tokens + noised) * model.in_channels * hidden
    conditions = 2 * vectors * hidden * ((6 * model.num_layers + 2) * hidden + model.time_width + hidden)
    return model.num_layers * layer + ends + conditions
