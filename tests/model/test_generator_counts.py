"""Counts of networks with a head per token, against torch's counter, autograd and real modules."""

from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from acdit.diffusion.continuous import DiffusionObjective
from acdit.diffusion.objective import SampleKey
from acdit.model import split_attention as split
from acdit.model.flops import Dimensions, forward_flops
from acdit.model.generator_counts import TokenHeadCounts, generator_counts
from acdit.model.layout import Layout
from acdit.model.token_head import CausalTokenDiffusion
from acdit.utils.errors import UserError
from tests.tiny import randomise, tiny_model

LAYOUT = Layout((2, 3), (1, 1))
CHANNELS = 8


def network(**config) -> CausalTokenDiffusion:
    with torch.device("meta"):  # where torch counts attention too
        model = CausalTokenDiffusion(CHANNELS, (2, 3), 2, 48, 3, **config)
    model.set_attention_backend("split")
    return model


@pytest.fixture
def exact_pieces(monkeypatch):
    """One call of attention per query, so that nothing masked is computed."""
    exact = split._groups
    monkeypatch.setattr(split, "_groups", lambda visibility, size: exact(visibility, 1))


def counted(model: CausalTokenDiffusion, blocks, clean: int, cache=None, batch: int = 1) -> int:
    """FLOPs that torch counts in one call."""
    noised = torch.empty(batch, len(blocks), 1, CHANNELS, device="meta")
    given = torch.empty(batch, clean, 1, CHANNELS, device="meta") if clean else None
    times = torch.empty(batch, len(blocks), device="meta")
    with FlopCounterMode(display=False) as counter:
        model(noised, times, layout=LAYOUT, blocks=blocks, clean=given, cache=cache)
    return counter.get_total_flops()


@pytest.mark.parametrize("config", [{"num_classes": 7}, {"head_size": 20, "head_layers": 1}])
def test_parameters_are_those_of_the_module(config):
    model = network(**config)
    assert generator_counts(model.config).parameters == model.num_parameters()


@pytest.mark.parametrize("config", [{"num_classes": 7}, {"head_size": 20, "head_layers": 1}])
def test_forward_flops_are_those_that_torch_counts(config, exact_pieces):
    model = network(**config)
    flops = generator_counts(model.config).forward_flops(LAYOUT)
    assert flops == counted(model, range(6), 5) == counted(model, range(6), 6)


def test_sampling_flops_are_those_of_the_calls_of_a_generation(exact_pieces):
    model = network(num_classes=7, head_size=40)
    cache, steps, total = model.new_cache(LAYOUT, 2), [1, 2] * 3, 0
    for token, count in enumerate(steps):
        for step in range(count):
            clean = 1 if token and not step else 0
            total += counted(model, (token,), clean, cache, batch=2)
    counts = generator_counts(model.config)
    assert counts.sampling_flops(LAYOUT, steps, guided=True) == total
    assert counts.sampling_flops(LAYOUT, steps, guided=False) == total / 2
    assert counts.cache_bytes(LAYOUT, guided=True) == model.new_cache(LAYOUT, 2).nbytes
    assert counts.cache_bytes(LAYOUT) == model.new_cache(LAYOUT, 1).nbytes
    unlabelled = network()
    single = generator_counts(unlabelled.config)
    assert single.cache_bytes(LAYOUT, guided=True) == unlabelled.new_cache(LAYOUT, 1).nbytes
    assert single.sampling_flops(LAYOUT, steps, guided=True) == single.sampling_flops(
        LAYOUT, steps, guided=False
    )


@pytest.mark.parametrize(("draws", "views"), [(1, None), (2, 2), (1, 99)])
def test_training_flops_are_the_mean_over_the_tokens_that_may_be_drawn(exact_pieces, draws, views):
    model = network(num_classes=7)
    subsets = {subset[-1]: subset for subset in combinations(range(6), min(views or 6, 6))}
    by_last = {
        last: counted(model, [token for token in subset for _ in range(draws)], 5)
        for last, subset in subsets.items()
    }
    lasts = [subset[-1] for subset in combinations(range(6), min(views or 6, 6))]
    mean = sum(by_last[last] for last in lasts) / len(lasts)
    counts = generator_counts(model.config)
    assert counts.training_flops(LAYOUT, draws=draws, views=views) == pytest.approx(3 * mean, rel=1e-12)
    recomputed = counts.training_flops(LAYOUT, draws=draws, views=views, checkpointing=True)
    assert 3 * mean < recomputed < 4 * mean


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("draws", "views", "half"), [(1, None, False), (4, None, True), (2, 5, False)])
def test_activations_are_what_autograd_saves(draws, views, half, checkpointing):
    layout, batch = Layout((4, 8), (1, 1)), 2
    model = CausalTokenDiffusion(CHANNELS, layout.grid, 4, 64, 2, num_classes=7, head_size=96).train()
    model.set_attention_backend("dense")
    randomise(model)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    matrices = {tuple(p.shape) for p in model.parameters() if p.ndim == 2}
    kept: dict[int, Tensor] = {}

    def show(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        copied = tuple(tensor.shape[::-1]) in matrices and tensor.stride(0) == 1  # a weight in bf16
        if place not in weights and not copied:
            kept.setdefault(place, tensor)
        return tensor

    if checkpointing:
        model.enable_gradient_checkpointing()
    blocks = None if views is None else range(32 - views, 32)
    with (
        torch.autograd.graph.saved_tensors_hooks(show, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        loss = DiffusionObjective().loss(
            model,
            torch.zeros(batch, 32, 1, CHANNELS),
            layout=layout,
            key=SampleKey(0, [0] * batch, range(batch)),
            labels=torch.zeros(batch, dtype=torch.long),
            null_label=7,
            blocks=blocks,
            draws=range(draws),
        )
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert loss.mean.requires_grad
    counts = generator_counts(model.config)
    planned = counts.activation_bytes(
        layout, half=half, draws=draws, views=views, checkpointing=checkpointing
    )
    if checkpointing:  # a layer that is run again is not kept yet
        planned -= 32 * (10 * 64 + 2 * 256) * (2 if half else 4)
    assert batch * planned == pytest.approx(measured, rel=0.1)


def test_other_networks_and_other_layouts():
    acdit = tiny_model()
    counts = generator_counts(acdit.config)
    layout = Layout((6, 6), (3, 3))
    assert counts.forward_flops(layout) == forward_flops(Dimensions.of(acdit.config), layout)
    assert not isinstance(counts, TokenHeadCounts)
    token_head = generator_counts(network().config)
    assert token_head.network_tokens(LAYOUT, draws=4) == 6
    with pytest.raises(UserError, match="the block must be 1x1, not 3x3"):
        token_head.forward_flops(layout)
