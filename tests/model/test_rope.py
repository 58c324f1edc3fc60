"""RoPE-ND against Eq. 4 written out with loops, and the two properties that make it a rotary embedding."""

import itertools
import math

import pytest
import torch

from acdit.model.layout import Layout
from acdit.model.rope import RopeTable, Rotation, check_split, default_split, rope_base
from tests.tiny import relative_error

# Grid, block, split; one axis is longer than 40 tokens, where Eq. 4's base grows.
CASES = [
    pytest.param((60,), (5,), (16,), id="1-D"),
    pytest.param((4, 6), (2, 3), (8, 8), id="2-D"),
    pytest.param((45, 3), (9, 3), (4, 12), id="2-D, long, uneven split"),
    pytest.param((4, 2, 6), (2, 2, 3), (4, 6, 6), id="3-D"),
]


def whole(layout, lengths, split, variant, dtype):
    """The tables of all blocks of a layout."""
    rotation = Rotation(lengths, split, variant, dtype, torch.device("cpu"))
    return rotation.table(layout, range(layout.num_blocks))


def table_of(grid, block, split, variant="eq4"):
    return whole(Layout(grid, block), tuple(grid), split, variant, torch.float64)


def rotated_everywhere(table: RopeTable, vector):
    """One vector (D) as it is rotated at every token: (T, B, D)."""
    places = vector.expand(1, *table.cos.shape[:2], 1, -1)
    return table.rotate(places)[0, :, :, 0]


def vectors(width, count=2):
    source = torch.Generator().manual_seed(1)
    return [torch.randn(width, generator=source, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize(("grid", "block", "split"), CASES)
def test_inner_products_depend_on_differences_alone(grid, block, split):
    table, (query, key) = table_of(grid, block, split), vectors(sum(split))
    products = rotated_everywhere(table, query).flatten(0, 1) @ rotated_everywhere(table, key).flatten(0, 1).T
    places = Layout(grid, block).coordinates().flatten(0, 1)
    steps = places[:, None] - places[None]  # (L, L, axes)
    for axis, length in enumerate(grid):
        values = {}
        along = (steps == 0).sum(-1) >= len(grid) - 1  # both tokens on one line ..
        along &= (steps == 0)[:, :, [other for other in range(len(grid)) if other != axis]].all(
            -1
        )  # of this axis
        for step in range(1 - length, length):
            at_step = products[along & (steps[..., axis] == step)]
            assert at_step.max() - at_step.min() < 1e-9
            values[step] = float(at_step.mean())
        ordered = sorted(values.values())
        assert min(b - a for a, b in itertools.pairwise(ordered)) > 1e-9, "steps cannot be told apart"


@pytest.mark.parametrize(("grid", "block", "split"), CASES)
def test_norms_are_kept_along_every_axis(grid, block, split):
    table, (query,) = table_of(grid, block, split), vectors(sum(split), 1)
    parts = zip(rotated_everywhere(table, query).split(split, -1), query.split(split), strict=True)
    for turned, original in parts:
        assert (turned.norm(dim=-1) / original.norm() - 1).abs().max() < 1e-12
        assert relative_error(turned[-1, -1], original) > 1e-3


@pytest.mark.parametrize(("grid", "block", "split"), CASES)
def test_equation_4_by_loops(grid, block, split):
    layout, (query,) = Layout(grid, block), vectors(sum(split), 1)
    turned = rotated_everywhere(table_of(grid, block, split), query)
    expected = torch.zeros_like(turned)
    for t, b in itertools.product(range(layout.num_blocks), range(layout.block_tokens)):
        offset = 0
        for axis, width in enumerate(split):
            base = 100 * math.ceil(8 * grid[axis] / (100 * math.pi))
            for i in range(1, width // 2 + 1):
                angle = int(layout.coordinates()[t, b, axis]) * base ** (-2 * (i - 1) / width)
                low, high = offset + i - 1, offset + i - 1 + width // 2
                x, y = float(query[low]), float(query[high])
                expected[t, b, low] = x * math.cos(angle) - y * math.sin(angle)
                expected[t, b, high] = y * math.cos(angle) + x * math.sin(angle)
            offset += width
    assert relative_error(turned, expected) < 1e-12


def test_published_variant_by_loops():
    grid, block, split, width = (48, 2, 2), (12, 2, 2), (16, 24, 24), 64
    layout, (query,) = Layout(grid, block), vectors(width, 1)
    turned = rotated_everywhere(table_of(grid, block, split, "published"), query)
    expected, coordinates = torch.zeros_like(turned), layout.coordinates().tolist()
    for t, b in itertools.product(range(layout.num_blocks), range(layout.block_tokens)):
        angles = []
        for axis, dimensions in enumerate(split):
            base, pairs = (200, 100, 100)[axis], dimensions // 2
            once = [
                coordinates[t][b][axis] * base ** (-(width * i / (pairs - 1)) / width) for i in range(pairs)
            ]
            angles += once + once
        for i, angle in enumerate(angles):
            partner = -query[i + width // 2] if i < width // 2 else query[i - width // 2]
            expected[t, b, i] = query[i] * math.cos(angle) + partner * math.sin(angle)
    assert relative_error(turned, expected) < 1e-6  # exponents in float32, as published


@pytest.mark.parametrize("variant", ["eq4", "published"])
@pytest.mark.parametrize(
    ("length", "base"), [(1, 100), (16, 100), (32, 100), (39, 100), (40, 200), (48, 200), (1024, 2700)]
)
def test_base(length, base, variant):
    assert rope_base(length, variant) == base


def test_axis_lengths_not_the_grid_set_the_frequencies():
    short = whole(Layout((8,), (2,)), (60,), (16,), "eq4", torch.float64)
    assert torch.equal(short.cos.flatten(0, 1), table_of((60,), (5,), (16,)).cos.flatten(0, 1)[:8])
    assert not torch.equal(short.cos, table_of((8,), (2,), (16,)).cos)


def test_block_size_moves_no_token():
    layouts = [Layout((4, 6), block) for block in ((4, 6), (2, 3), (1, 1))]
    split = (8, 8)
    grids = []
    for layout in layouts:
        table = whole(layout, (4, 6), split, "eq4", torch.float64)
        grids.append(layout.from_blocks(table.sin[None, :, :, 0]))
    assert torch.equal(grids[0], grids[1]) and torch.equal(grids[0], grids[2])


def test_rotation_in_bfloat16_computes_in_float32():
    table = whole(Layout((60,), (60,)), (60,), (16,), "eq4", torch.float32)
    x = torch.randn(1, 1, 60, 2, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    turned = table.rotate(x)
    assert turned.dtype == torch.bfloat16 and torch.equal(turned, table.rotate(x.float()).bfloat16())


def test_selected_blocks():
    table = table_of((4, 6), (2, 3), (8, 8))
    picked = table.select(torch.tensor([0, 2, 2]))
    assert torch.equal(picked.cos, table.cos[[0, 2, 2]]) and torch.equal(picked.sin, table.sin[[0, 2, 2]])


@pytest.mark.parametrize(
    ("head_dim", "axes", "split"),
    [(64, 1, (64,)), (64, 2, (32, 32)), (64, 3, (16, 24, 24)), (16, 3, (4, 6, 6))],
)
def test_default_split(head_dim, axes, split):
    assert default_split(head_dim, axes) == split
    check_split(split, head_dim, axes)


@pytest.mark.parametrize(("head_dim", "axes", "multiple"), [(7, 1, 2), (30, 2, 4), (24, 3, 16)])
def test_head_that_cannot_be_split(head_dim, axes, multiple):
    with pytest.raises(
        ValueError, match=f"head dimension of {head_dim} .* multiple of {multiple}, or give rope_split"
    ):
        default_split(head_dim, axes)


def test_axes_that_are_too_many():
    with pytest.raises(ValueError, match="1 to 3 values, not 4"):
        default_split(64, 4)


@pytest.mark.parametrize("split", [(8,), (8, 6), (5, 11), (16, 0), (-2, 18)])
def test_split_that_is_wrong(split):
    with pytest.raises(
        ValueError, match="rope_split must be 2 even widths that sum to the head dimension 16"
    ):
        check_split(split, 16, 2)
