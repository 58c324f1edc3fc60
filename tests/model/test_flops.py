"""Counts from configuration alone, against torch's own counter and real modules."""

from itertools import combinations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from acdit.model import split_attention as split
from acdit.model.flops import (
    Dimensions,
    cache_bytes,
    forward_flops,
    parameters,
    sampling_flops,
    training_flops,
)
from acdit.model.layout import Layout
from acdit.model.sizes import SIZES
from acdit.model.transformer import ACDiTTransformer
from tests.tiny import tiny_model

LAYOUT = Layout((4, 6), (2, 3))
CHANNELS = 8


def network(**config) -> ACDiTTransformer:
    with torch.device("meta"):  # where torch counts attention too
        return ACDiTTransformer(CHANNELS, (4, 6), 3, 48, 3, **config)


def counted(model: ACDiTTransformer, blocks: tuple[int, ...], clean: int, cached: int = 0) -> int:
    """FLOPs that torch counts in a forward of one sample, every query block in a call of its own."""
    cache = model.new_cache(LAYOUT, 1)
    cache.advance(cached)
    noised = torch.empty(1, len(blocks), LAYOUT.block_tokens, CHANNELS, device="meta") if blocks else None
    given = torch.empty(1, clean, LAYOUT.block_tokens, CHANNELS, device="meta") if clean else None
    timestep = torch.empty(1, len(blocks), device="meta")
    labels = torch.zeros(1, dtype=torch.long, device="meta") if model.config["num_classes"] else None
    model.set_attention_backend("split")
    with FlopCounterMode(display=False) as counter:
        model(noised, timestep, layout=LAYOUT, blocks=blocks, clean=given, labels=labels, cache=cache)
    return counter.get_total_flops()


@pytest.fixture(autouse=True)
def exact_pieces(monkeypatch):
    """One call per query block, so that nothing masked is computed."""
    exact = split._groups
    monkeypatch.setattr(split, "_groups", lambda visibility, size: exact(visibility, 1))


@pytest.mark.parametrize("config", [{"num_classes": 7}, {"num_classes": None, "time_conditioning": False}])
@pytest.mark.parametrize(
    ("blocks", "clean", "cached"),
    [((0, 1, 2, 3), 3, 0), ((1, 1, 3), 3, 0), ((2, 2), 1, 1), ((), 2, 1), ((0,), 0, 0)],
)
def test_forward_flops_are_those_that_torch_counts(config, blocks, clean, cached):
    model = network(**config)
    expected = counted(model, blocks, clean, cached)
    assert expected > 0
    flops = forward_flops(Dimensions.of(model.config), LAYOUT, blocks=blocks, cached=cached, clean=clean)
    assert flops == expected


@pytest.mark.parametrize("positions", ["rope_nd", "absolute"])
@pytest.mark.parametrize("classes", [7, None])
def test_flops_with_noised_context(classes, positions):
    """Training is one stream, which needs no clean blocks; in sampling these have conditions too."""
    model = network(num_classes=classes, context="noised", positions=positions)
    size = Dimensions.of(model.config)
    model.set_attention_backend("split")
    noised = torch.empty(1, 4, LAYOUT.block_tokens, CHANNELS, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(noised, torch.empty(1, 4, device="meta"), layout=LAYOUT)
    assert forward_flops(size, LAYOUT) == counter.get_total_flops() > 0
    assert training_flops(size, LAYOUT) == 3 * counter.get_total_flops()
    for blocks, clean, cached in (((0,), 0, 0), ((2,), 1, 1), ((3,), 0, 3), ((), 2, 1)):
        flops = forward_flops(size, LAYOUT, blocks=blocks, cached=cached, clean=clean)
        assert flops == counted(model, blocks, clean, cached)
    guided, plain = (sampling_flops(size, LAYOUT, [3] * 4, guided=guided) for guided in (True, False))
    assert cache_bytes(size, LAYOUT, guided=True) == cache_bytes(size, LAYOUT) * (2 if classes else 1)
    if classes:
        assert guided == 2 * plain
    with torch.device("cpu"):
        assert parameters(size) == model.num_parameters()


def test_ids_are_looked_up_and_cost_no_product():
    with torch.device("meta"):
        model = ACDiTTransformer(
            None, (24,), 3, 48, 3, vocab_size=11, num_classes=None, time_conditioning=False
        )
        ids = torch.zeros(1, 4, 6, dtype=torch.long)
    model.set_attention_backend("split")
    layout = Layout((24,), (6,))
    with FlopCounterMode(display=False) as counter:
        model(ids, None, layout=layout, clean=ids[:, :3])
    size = Dimensions.of(model.config)
    assert forward_flops(size, layout) == counter.get_total_flops() > 0
    assert parameters(size) == model.num_parameters()


def test_training_needs_the_clean_blocks_before_the_last():
    model = Dimensions.of(network(num_classes=7).config)
    assert forward_flops(model, LAYOUT) == forward_flops(model, LAYOUT, blocks=(0, 1, 2, 3), clean=3)


def test_sampling_flops_sum_the_calls_of_the_loop():
    model = Dimensions.of(network(num_classes=7).config)
    calls = 0
    for block in range(4):
        views = (block, block)
        calls += forward_flops(model, LAYOUT, blocks=views, cached=max(0, block - 1), clean=min(1, block))
        calls += 2 * forward_flops(model, LAYOUT, blocks=views, cached=block, clean=0)
    assert sampling_flops(model, LAYOUT, [3] * 4, guided=True) == calls
    assert sampling_flops(model, LAYOUT, [3] * 4, guided=False) < calls


@pytest.mark.parametrize(("draws", "views"), [(1, None), (2, None), (1, 1), (1, 2), (3, 2), (1, 3), (2, 9)])
def test_training_flops_are_the_mean_over_the_blocks_that_may_be_drawn(draws, views):
    model = Dimensions.of(network(num_classes=7).config)
    subsets = list(combinations(range(4), min(views or 4, 4)))
    forwards = [
        forward_flops(model, LAYOUT, blocks=[block for block in subset for _ in range(draws)])
        for subset in subsets
    ]
    mean = sum(forwards) / len(forwards)
    assert training_flops(model, LAYOUT, draws=draws, views=views) == pytest.approx(3 * mean, rel=1e-12)
    recomputed = training_flops(model, LAYOUT, draws=draws, views=views, checkpointing=True)
    assert recomputed == pytest.approx(4 * mean, rel=1e-12)


@pytest.mark.parametrize("config", [{"num_classes": 7}, {"num_classes": None, "time_conditioning": False}])
def test_parameters_are_those_of_the_module(config):
    model = network(**config)
    assert parameters(Dimensions.of(model.config)) == sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize(("size", "millions"), [("B", 130.3), ("L", 457.9), ("XL", 674.9), ("H", 951.0)])
def test_named_sizes_count_what_the_paper_s_weights_count(size, millions):
    with torch.device("meta"):
        model = ACDiTTransformer(4, (32, 32), **SIZES[size]._asdict(), num_classes=1000)
    count = sum(weight.numel() for weight in model.parameters())
    assert parameters(Dimensions.of(model.config)) == count
    assert count / 1e6 == pytest.approx(millions, abs=0.06)


def test_cache_bytes_are_those_of_the_cache():
    model = tiny_model(axis_lengths=(4, 6), in_channels=CHANNELS, dtype=torch.float32)
    cache = model.new_cache(LAYOUT, 3)
    assert 3 * cache_bytes(Dimensions.of(model.config), LAYOUT) == cache.nbytes
