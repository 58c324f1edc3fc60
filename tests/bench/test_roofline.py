"""What must be done, counted again one call at a time; and the rate of matrix products under a slow clock."""

from itertools import count
from types import SimpleNamespace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from acdit.bench.roofline import attention_flops, generation_flops, linear_products, score_products
from acdit.model import matmul_rate
from acdit.model.attention import attend
from acdit.model.flops import Dimensions, forward_flops
from acdit.model.layout import Layout
from acdit.model.matmul_rate import MatmulRate, best_rate
from acdit.model.skip_causal_mask import clean_visibility, view_visibility

MODEL = Dimensions(3, 4, 48, 3, 192, 7, True)
LAYOUTS = [Layout((4, 6), (2, 3)), Layout((4, 6), (4, 6)), Layout((8,), (1,))]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_attention_of_a_training_step_is_what_torch_counts(layout):
    """On the device `meta`, where torch counts attention too; each query block in a call of its own."""
    tokens, past = layout.num_tokens, layout.num_tokens - layout.block_tokens
    query, clean = (torch.empty(5, 3, length, 16, device="meta") for length in (tokens, past))
    with FlopCounterMode(display=False) as counter:
        views = view_visibility(layout.block_tokens, range(layout.num_blocks))
        attend(query, (clean, clean) if past else None, (query, query), views, group_tokens=1)
        if past:
            seen = clean_visibility(layout.block_tokens, 0, layout.num_blocks - 1)
            attend(clean, (clean, clean), None, seen, group_tokens=1)
    once = attention_flops(MODEL, layout, batch=5, backward=False)
    assert once == counter.get_total_flops() > 0
    assert attention_flops(MODEL, layout, batch=5, backward=True) == 3 * once


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_generation_needs_each_condition_vector_once(layout, guided):
    batch, steps, labels = 3, 4, [2, 5, 2]
    total, pairs, times = 0, set(), set()
    hidden = MODEL.hidden_size
    vector = 2 * hidden * hidden * (6 * MODEL.num_layers + 2)
    embedding = 2 * hidden * (256 + hidden)
    for block in range(layout.num_blocks):
        for step in range(steps):
            views = (block,) * (1 + guided)
            first = step == 0 and block > 0
            calls = forward_flops(
                MODEL, layout, blocks=views, cached=block - 1 if first else block, clean=int(first)
            )
            total += batch * (calls - len(views) * (vector + embedding))
            pairs |= {(step, label) for label in [*labels, *(["null"] if guided else [])]}
            times.add(step)
    total += len(pairs) * vector + len(times) * embedding
    counted = generation_flops(MODEL, layout, batch=batch, steps=steps, labels=2, guided=guided)
    assert counted == total


def test_the_best_rate_is_remembered(monkeypatch):
    """A clock that takes a second for every run, and then a quarter of one, and then two."""
    products = [(1, 500, 48, 1440), (6, 40, 160, 80)]
    rate = MatmulRate(products, torch.float64, torch.device("cpu"))  # whose products torch counts
    found = []
    for seconds in (1.0, 0.25, 2.0):
        clock = count(step=seconds)
        monkeypatch.setattr(matmul_rate, "time", SimpleNamespace(perf_counter=clock.__next__))
        with FlopCounterMode(display=False) as counter:
            rate.measure()
        found.append(rate.best)
    done = counter.get_total_flops()
    # Both are repeated to about 2e8 FLOPs, for training and for sampling, and the better of the two counts.
    assert 2e8 < found[0] <= 2e8 + 2 * 500 * 48 * 1440
    assert done / 2 - found[0] == pytest.approx(2e8, rel=0.05)
    assert found[1] == found[2] == 4 * found[0]


def test_the_best_of_some_measurements(monkeypatch):
    """Two products, measured twice in two ways, under a clock that is asked before and after each."""
    ticks = iter([0.0, 1.0, 0.0, 0.5, 0.0, 0.25, 0.0, 2.0] * 2)
    monkeypatch.setattr(matmul_rate, "time", SimpleNamespace(perf_counter=ticks.__next__))
    rate = best_rate([(1, 500, 48, 1440)] * 2, torch.float32, torch.device("cpu"), times=2)
    flops = 2 * 500 * 48 * 1440
    assert rate == (int(2e8 // flops) + 1) * flops / 0.25
    assert next(ticks, None) is None


def test_products_are_those_of_a_layer():
    assert linear_products(MODEL, 10) == [
        (1, 10, 48, 144),
        (1, 10, 48, 48),
        (1, 10, 48, 192),
        (1, 10, 192, 48),
    ]
    assert score_products(MODEL, Layout((4, 6), (2, 3)), 2) == [(6, 6, 16, 6), (6, 6, 16, 12), (6, 6, 16, 24)]
    assert score_products(MODEL, Layout((4, 6), (4, 6)), 2) == [(6, 24, 16, 24)]
