"""Sampling of networks with a head per token, against a loop without cache and without kept states."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from acdit.diffusion.class_losses import number_of_classes
from acdit.diffusion.generate import Guidance, draw_noise, generate
from acdit.diffusion.schedulers import default_sampler, unipc_sampler
from acdit.model.classifier import ACDiTForImageClassification
from acdit.model.layout import Layout
from acdit.model.token_head import CausalTokenDiffusion
from acdit.utils.errors import UserError
from tests.tiny import randomise, relative_error

LAYOUT, NULL, LABELS = Layout((2, 3), (1, 1)), 5, torch.tensor([1, 3])


@pytest.fixture(scope="module")
def network() -> CausalTokenDiffusion:
    model = CausalTokenDiffusion(3, LAYOUT.grid, 2, 32, 2, num_classes=NULL, head_size=24)
    randomise(model)
    torch.nn.Module.to(model.eval(), torch.float64)
    return model


@torch.no_grad()
def loop(network: Any, scheduler: Any, scale: float, labels: Tensor | None, given: Tensor) -> Tensor:
    """The samples (N, T, 1, C) of one teacher-forced call per step and branch, after given tokens."""
    noise, finished = draw_noise(range(2), LAYOUT, 3).double(), list(given.unbind(1))
    for token in range(len(finished), LAYOUT.num_tokens):
        solver = copy.deepcopy(scheduler)
        solver.set_timesteps(3)
        x = noise[:, token]
        for timestep in solver.timesteps:
            conditional, unconditional = (
                network(
                    x[:, None],
                    torch.full((2, 1), float(timestep)),
                    layout=LAYOUT,
                    blocks=[token],
                    clean=torch.stack(finished, 1) if finished else None,
                    labels=branch,
                ).sample[:, 0]
                for branch in (labels, None)
            )
            guided = unconditional + scale * (conditional - unconditional)
            x = solver.step(guided, timestep, x).prev_sample
        finished.append(x)
    return torch.stack(finished[given.shape[1] :], 1)


@pytest.mark.parametrize(
    ("scheduler", "scale", "labels", "prefix"),
    [
        (default_sampler("flow"), 2.5, LABELS, 0),
        (default_sampler("epsilon"), 1.0, LABELS, 0),
        (unipc_sampler("v"), 1.5, LABELS, 2),
        (default_sampler("flow"), 2.5, None, 3),
    ],
)
def test_equals_the_loop(network, scheduler, scale, labels, prefix):
    given = torch.randn(2, prefix, 1, 3, generator=torch.Generator().manual_seed(7)).double()
    blocks = list(
        generate(
            network,
            LAYOUT,
            draw_noise(range(2), LAYOUT, 3).double(),
            scheduler=scheduler,
            steps=3,
            labels=labels,
            guidance=Guidance(scale),
            prefix=given if prefix else None,
        )
    )
    sample = torch.stack([block.sample for block in blocks], 1)
    expected = loop(network, scheduler, scale if labels is not None else 1.0, labels, given)
    assert relative_error(sample, expected) < 1e-9
    assert [block.evaluations for block in blocks] == [3] * (6 - prefix)


def test_what_other_networks_do_and_this_does_not(network):
    options: dict[str, Any] = {"scheduler": default_sampler("flow"), "labels": LABELS}
    noise = draw_noise(range(2), LAYOUT, 3)
    with pytest.raises(UserError, match="leave out window"):
        next(generate(network, LAYOUT, noise, window=2, **options))
    with pytest.raises(UserError, match="the block must be 1x1, not 2x3"):
        whole = Layout((2, 3), (2, 3))
        next(generate(network, whole, draw_noise(range(2), whole, 3), **options))
    with pytest.raises(UserError, match="cannot classify"):
        number_of_classes(network)
    with pytest.raises(UserError, match="needs an ACDiTTransformer, not a CausalTokenDiffusion"):
        ACDiTForImageClassification.from_generator(network, 4)
