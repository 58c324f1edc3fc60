"""The published computation and the network: two computations that share weights and nothing else."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from acdit.bench.baseline import Published, sampling_mask, training_mask
from acdit.bench.roofline import published_sampling_flops, published_training_flops
from acdit.diffusion.generate import Guidance, draw_noise, generate
from acdit.diffusion.schedulers import default_sampler
from acdit.model.flops import Dimensions
from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from tests.reference import scam
from tests.tiny import TINY, TOLERANCE, relative_error, tiny_inputs, tiny_model

LAYOUTS = [Layout((6, 6), (3, 2)), Layout((4, 4), (4, 4)), Layout((2, 4, 4), (1, 2, 4)), Layout((8,), (1,))]
VIDEO = Layout((2, 4, 4), (1, 2, 4))
LABELS = torch.tensor([1, 3])


def network(layout: Layout, rope: str, dtype: torch.dtype = torch.float32, **config: Any) -> ACDiTTransformer:
    config = {"axis_lengths": layout.grid, "hidden_size": 32, "rope": rope} | config
    return tiny_model(dtype=dtype, **config)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rope", ["published", "eq4"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_answer_is_the_network_s(layout, rope, dtype):
    model = network(layout, rope, dtype)
    inputs = tiny_inputs(layout, dtype=dtype)
    for grad in (True, False):  # without gradients it computes in place
        with torch.set_grad_enabled(grad):
            ours = model(
                inputs.noised, inputs.timestep, layout=layout, clean=inputs.clean, labels=inputs.labels
            ).sample
            theirs = Published(model).predict(
                inputs.noised, inputs.timestep, inputs.clean, inputs.labels, layout=layout
            )
        assert theirs.requires_grad == grad
        assert relative_error(ours.detach(), theirs.detach()) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rope", ["published", "eq4"])
def test_loss_and_gradients_are_the_network_s(rope, dtype):
    model = network(VIDEO, rope, dtype)
    inputs = tiny_inputs(VIDEO, dtype=dtype)
    target = torch.randn(inputs.noised.shape, generator=torch.Generator().manual_seed(5)).to(dtype)
    ours = model(
        inputs.noised, inputs.timestep, layout=VIDEO, clean=inputs.clean, labels=inputs.labels
    ).sample
    theirs = Published(model).predict(
        inputs.noised, inputs.timestep, inputs.clean, inputs.labels, layout=VIDEO
    )
    losses = [(answer - target).square().mean() for answer in (ours, theirs)]
    assert relative_error(losses[0].detach(), losses[1].detach()) < TOLERANCE[dtype]
    named = dict(model.named_parameters())
    gradients = [torch.autograd.grad(loss, list(named.values())) for loss in losses]
    for name, a, b in zip(named, *gradients, strict=True):
        assert relative_error(a, b) < TOLERANCE[dtype], name


@pytest.mark.parametrize("guidance", [1.0, 1.5])
@pytest.mark.parametrize("rope", ["published", "eq4"])
@pytest.mark.parametrize("layout", [*LAYOUTS[:3], Layout((6, 6), (1, 2))], ids=str)
def test_samples_are_those_of_generate(layout, rope, guidance):
    """The same noise and solver, block by block with a cache, which holds at most half the bytes here."""
    model = network(layout, rope, torch.float64)
    noise = draw_noise([7, 8], layout, 3).double()
    common: dict[str, Any] = {"scheduler": default_sampler("flow"), "steps": 3, "labels": LABELS}
    blocks = list(generate(model, layout, noise, guidance=Guidance(guidance), **common))
    samples, held = Published(model).generate(layout, noise, guidance=guidance, **common)
    assert relative_error(torch.stack([block.sample for block in blocks], 1), samples) < 1e-9
    cache = blocks[-1].cache
    assert held == (0 if cache is None else cache.nbytes * (1 if guidance == 1 else 2))


def test_samples_in_float32():
    model, layout = network(LAYOUTS[0], "published"), LAYOUTS[0]
    noise = draw_noise([7, 8], layout, 3)
    common: dict[str, Any] = {"scheduler": default_sampler("epsilon"), "steps": 4, "labels": LABELS}
    blocks = list(generate(model, layout, noise, guidance=Guidance(1.5), **common))
    samples, _ = Published(model).generate(layout, noise, guidance=1.5, **common)
    assert relative_error(torch.stack([block.sample for block in blocks], 1), samples) < 1e-5


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_masks_are_those_of_the_paper(layout):
    blocks = range(layout.num_blocks)
    kinds = [(False, i) for i in blocks] + [(True, i) for i in blocks]
    device = torch.device("cpu")
    assert torch.equal(training_mask(layout, device), scam(kinds, layout.block_tokens, None, 0))
    for index in blocks[1:]:
        whole = scam([*kinds[:index], (True, index)], layout.block_tokens, None, 0)
        assert torch.equal(
            sampling_mask(layout.block_tokens, index, device), whole[-2 * layout.block_tokens :]
        )


def test_a_network_without_conditions_is_refused():
    with pytest.raises(ValueError, match="timesteps and classes"):
        Published(network(VIDEO, "eq4", num_classes=None))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_its_flops_are_those_that_torch_counts(layout):
    with torch.device("meta"):  # where torch counts attention too
        model = ACDiTTransformer(**(TINY | {"axis_lengths": layout.grid, "hidden_size": 32}))
        inputs = [torch.empty(3, layout.num_blocks, *rest) for rest in [(layout.block_tokens, 3), ()]]
        labels = torch.zeros(3, dtype=torch.long)
    published, sizes = Published(model), Dimensions.of(model.config)
    with FlopCounterMode(display=False) as counter:
        published.predict(inputs[0], inputs[1], inputs[0], labels, layout=layout)
    assert 3 * counter.get_total_flops() == published_training_flops(sizes, layout, batch=3)


@pytest.mark.parametrize("guidance", [1.0, 1.5])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_its_sampling_flops_are_those_that_torch_counts(layout, guidance, monkeypatch):
    """Attention, which torch counts as nothing on the CPU, goes to the two products that it is."""

    def products(query, key, value, attn_mask=None):
        scores = query @ key.transpose(-2, -1)
        return (scores if attn_mask is None else scores.masked_fill(~attn_mask, -torch.inf)).softmax(
            -1
        ) @ value

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", products)
    model = network(layout, "published").double()  # whose products torch counts, unlike oneDNN's
    noise = draw_noise([7, 8], layout, 3)
    with FlopCounterMode(display=False) as counter:
        Published(model).generate(
            layout, noise, scheduler=default_sampler("flow"), steps=3, labels=LABELS, guidance=guidance
        )
    counted = published_sampling_flops(
        Dimensions.of(model.config), layout, batch=2, steps=3, guided=guidance != 1
    )
    assert counter.get_total_flops() == counted
