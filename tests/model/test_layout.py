"""Layouts against explicit loops: patches, raster order, coordinates, and what cannot tile."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acdit.model.layout import Layout, dims, parse_dims


@st.composite
def layouts(draw):
    """Any layout of 1 to 3 axes with up to 4 blocks, 3 tokens a block and 3 elements a patch along each."""
    axes = draw(st.integers(1, 3))
    counts, block, patch = (draw(st.tuples(*[st.integers(1, high)] * axes)) for high in (4, 3, 3))
    return Layout(tuple(a * b for a, b in zip(counts, block, strict=True)), block, patch)


def numbered(layout, batch=2, channels=2):
    """Data in which every element is different."""
    shape = (batch, channels, *layout.size)
    return torch.arange(math.prod(shape)).reshape(shape)


@settings(max_examples=60, deadline=None)
@given(layouts())
def test_from_blocks_inverts_to_blocks(layout):
    data = numbered(layout)
    blocks = layout.to_blocks(data)
    assert blocks.shape == (2, layout.num_blocks, layout.block_tokens, layout.patch_elements * 2)
    assert torch.equal(layout.from_blocks(blocks), data)


@settings(max_examples=30, deadline=None)
@given(layouts())
def test_to_blocks_by_loops(layout):
    data = numbered(layout, batch=1)
    blocks = layout.to_blocks(data)[0]
    for t, corner in enumerate(itertools.product(*map(range, layout.block_counts))):
        for b, inside in enumerate(itertools.product(*map(range, layout.block))):
            token = [c * size + i for c, size, i in zip(corner, layout.block, inside, strict=True)]
            assert layout.coordinates()[t, b].tolist() == token
            elements = itertools.product(*map(range, layout.patch), range(2))
            for place, (*offset, channel) in enumerate(elements):
                at = [x * edge + o for x, edge, o in zip(token, layout.patch, offset, strict=True)]
                assert blocks[t, b, place] == data[(0, channel, *at)]


def test_patch_channels_are_row_column_channel():
    data = numbered(Layout((2, 1), (1, 1), (2, 3)), batch=1)
    token = Layout((2, 1), (1, 1), (2, 3)).to_blocks(data)[0, 1, 0]  # rows 2 and 3
    expected = [
        data[0, channel, 2 + row, column] for row in (0, 1) for column in range(3) for channel in (0, 1)
    ]
    assert token.tolist() == [int(value) for value in expected]


def test_raster_order_of_an_image():
    image = torch.arange(24).reshape(1, 1, 4, 6)
    blocks = Layout((4, 6), (2, 3)).to_blocks(image)[0, ..., 0]
    assert blocks.tolist() == [
        [0, 1, 2, 6, 7, 8],
        [3, 4, 5, 9, 10, 11],
        [12, 13, 14, 18, 19, 20],
        [15, 16, 17, 21, 22, 23],
    ]


def test_sizes():
    video = Layout((16, 16, 16), (4, 16, 16), (1, 2, 2))
    assert (video.axes, video.size, video.block_counts) == (3, (16, 32, 32), (4, 1, 1))
    assert (video.num_blocks, video.block_tokens, video.num_tokens, video.patch_elements) == (
        4,
        1024,
        4096,
        4,
    )
    assert video.with_block([16, 8, 8]) == Layout((16, 16, 16), (16, 8, 8), (1, 2, 2))
    assert str(video) == "grid 16x16x16, block 4x16x16, patch 1x2x2"
    assert Layout((8,), (2,)) == Layout((8,), (2,), (1,)) and hash(Layout((8,), (2,))) == hash(
        Layout((8,), (2,))
    )


def test_block_that_does_not_tile():
    with pytest.raises(ValueError, match=r"block 3x4 .* 8x6 .*\{1, 2, 4, 8\} x \{1, 2, 3, 6\}"):
        Layout((8, 6), (3, 4))
    with pytest.raises(ValueError, match=r"valid sizes along each axis: \{1, 2, 4, 8, .*, 1099511627776\}"):
        Layout((2**40,), (3,))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("block", ((4, 4), (2,))),
        ("block", ((4, 4), (2, 0))),
        ("patch", ((4, 4), (2, 2), (1,))),
        ("patch", ((4, 4), (2, 2), (1, -1))),
        ("grid", ((0, 4), (2, 2))),
        ("grid", ((), ())),
    ],
)
def test_sizes_that_are_wrong(name, arguments):
    with pytest.raises(ValueError, match=f"^{name} must have"):
        Layout(*arguments)


def test_data_of_another_shape():
    layout = Layout((4, 4), (2, 2), (2, 2))
    with pytest.raises(ValueError, match=r"data must be \(N, C, 8, 8\)"):
        layout.to_blocks(torch.zeros(1, 3, 8, 6))
    for shape in ((1, 4, 4), (1, 3, 4, 12), (1, 4, 4, 6)):
        with pytest.raises(ValueError, match=r"blocks must be \(N, 4, 4, C\)"):
            layout.from_blocks(torch.zeros(shape))


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=3).map(tuple))
def test_dims_are_read_as_written(sizes):
    assert parse_dims(dims(sizes)) == sizes


@pytest.mark.parametrize("text", ["", "4x", "x4", "0x4", "4*4", "4 x 4", "-1", "4X4"])
def test_dims_that_cannot_be_read(text):
    with pytest.raises(ValueError, match=r"^block must be sizes joined by x"):
        parse_dims(text)
