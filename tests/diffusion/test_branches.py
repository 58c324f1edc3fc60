"""Guidance of networks whose past depends on the label: each branch has keys and values of its own."""

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from acdit.diffusion.generate import Guidance, StepEnd, draw_noise, generate
from acdit.diffusion.schedulers import default_sampler
from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTOutput, ACDiTTransformer
from acdit.utils.errors import UserError
from tests.tiny import TINY, randomise, relative_error, tiny_model

NULL = TINY["num_classes"]
LAYOUT = Layout((4, 4), (2, 2))
FRAMES = Layout((4, 2, 2), (1, 2, 2))
LABELS = torch.tensor([1, 3])


class LabelledPast(ACDiTTransformer):
    """A network that sees clean blocks shifted by their label, and counts its calls by their rows."""

    shift = 0.2
    rows: Counter[int]

    @property
    def context_sees_labels(self) -> bool:
        return True

    def forward(self, *views: Tensor | None, **options: Any) -> Any:
        clean, labels = options.get("clean"), options.get("labels")
        (given,) = [part for part in (views[0], clean) if part is not None][:1]
        self.rows[len(given)] += 1
        if clean is not None:
            shifts = torch.full((len(clean),), NULL) if labels is None else labels
            options["clean"] = clean + self.shift * shifts[:, None, None, None]
        return super().forward(*views, **options)


class SamePast(LabelledPast):
    """A network whose branches could share the past, but which is evaluated for each."""

    shift = 0.0


def built(kind: type[LabelledPast], layout: Layout = LAYOUT) -> LabelledPast:
    config: dict[str, Any] = TINY | {"axis_lengths": layout.grid}
    network = kind(**config)
    randomise(network)
    network.rows = Counter()
    return network.eval()


@pytest.fixture(scope="module")
def network() -> LabelledPast:
    return built(LabelledPast)


def sampled(network: Any, layout: Layout = LAYOUT, **options: Any) -> Tensor:
    options = {"scheduler": default_sampler("epsilon"), "steps": 3, "labels": LABELS} | options
    blocks = generate(network, layout, draw_noise(range(2), layout, 3), **options)
    return torch.stack([block.sample for block in blocks], 1)


@torch.no_grad()
def loop(network: Any, scale: Any, prefix: Tensor | None = None, window: int | None = None) -> Tensor:
    """The same without cache, with one teacher-forced call a branch."""
    noise = draw_noise(range(2), LAYOUT, 3)
    finished = [] if prefix is None else list(prefix.unbind(1))
    for index in range(len(finished), LAYOUT.num_blocks):
        solver: Any = copy.deepcopy(default_sampler("epsilon"))
        solver.set_timesteps(3)
        x = noise[:, index]
        for step, timestep in enumerate(solver.timesteps):
            conditional, unconditional = (
                network(
                    x[:, None],
                    torch.full((2, 1), float(timestep)),
                    layout=LAYOUT,
                    blocks=[index],
                    clean=torch.stack(finished, 1) if finished else None,
                    labels=labels,
                    window=window,
                ).sample[:, 0]
                for labels in (LABELS, torch.full_like(LABELS, NULL))
            )
            guided = unconditional + scale(index, step) * (conditional - unconditional)
            x = solver.step(guided, timestep, x).prev_sample
        finished.append(x)
    return torch.stack(finished, 1)


@pytest.mark.parametrize("scale", [1.0, 1.5, 0.0])
def test_equals_the_loop(network, scale):
    given = sampled(network, guidance=Guidance(scale))
    assert relative_error(given, loop(network, lambda block, step: scale)) < 1e-5


def test_the_null_branch_sees_the_past_of_the_null_label(network):
    """With one past for both branches the samples would be others."""
    shared = sampled(built(LabelledPast), labels=None)  # null labels in the past too
    assert relative_error(shared, sampled(network, guidance=Guidance(0.0))) < 1e-5
    assert relative_error(shared, sampled(network)) > 1e-2


def test_where_the_scale_is_1_the_labels_alone_count(network):
    rising = sampled(network, guidance=Guidance(4.0, rising=True))
    assert relative_error(rising, loop(network, lambda block, step: 1.0 + block)) < 1e-5
    # sigma is 158, 9.4 and 1.5 at the timesteps 999, 666 and 333
    part = sampled(network, guidance=Guidance(2.0, interval=(2.0, 20.0)))
    assert relative_error(part, loop(network, lambda block, step: 2.0 if step == 1 else 1.0)) < 1e-5


def test_a_prefix_and_a_window(network):
    prefix = torch.randn(2, 2, 4, 3, generator=torch.Generator().manual_seed(7))
    given = sampled(network, prefix=prefix, window=1, guidance=Guidance(2.0))
    expected = loop(network, lambda block, step: 2.0, prefix, window=1)
    assert relative_error(given, expected[:, 2:]) < 1e-5
    long = torch.cat((prefix, prefix[:, :1]), 1)  # more blocks than the rolling cache takes at once
    given = sampled(network, prefix=long, window=1, guidance=Guidance(2.0))
    assert relative_error(given, loop(network, lambda block, step: 2.0, long, window=1)[:, 3:]) < 1e-5


@pytest.mark.parametrize("options", [{}, {"window": 1, "sinks": 1}, {"context_noise": 0.3}], ids=str)
def test_a_doubled_batch_of_an_unlabelled_past_is_two_views(options):
    """Sinks, context noise and solvers that draw noise, against the two views of the network as it is."""
    doubled = built(SamePast, FRAMES)
    views = tiny_model(axis_lengths=FRAMES.grid)
    betas = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
    results = []
    for network in (doubled, views):
        seeds = [torch.Generator().manual_seed(seed) for seed in (21, 22)]
        scheduler = DDPMScheduler(**betas, clip_sample=False)
        results.append(
            sampled(network, FRAMES, scheduler=scheduler, generators=seeds, guidance=Guidance(3.0), **options)
        )
    assert relative_error(*results) < 1e-5
    assert set(doubled.rows) == {4}


def test_callers_see_the_samples_alone(network):
    network.rows.clear()
    ends: list[StepEnd] = []
    noise = draw_noise(range(2), LAYOUT, 3)
    common: dict[str, Any] = {"scheduler": default_sampler("epsilon"), "steps": 3, "labels": LABELS}
    guided = list(generate(network, LAYOUT, noise, guidance=Guidance(2.0), on_step=ends.append, **common))
    assert network.rows == {4: 12} and [block.evaluations for block in guided] == [3] * 4
    assert {block.sample.shape for block in guided} == {end.sample.shape for end in ends} == {(2, 4, 3)}
    network.rows.clear()
    plain = list(generate(network, LAYOUT, noise, **common))
    assert network.rows == {2: 12} and guided[0].cache_bytes == 2 * plain[0].cache_bytes
    halted = generate(network, LAYOUT, noise, guidance=Guidance(2.0), interrupted=lambda: True, **common)
    assert [(block.sample.shape, block.complete) for block in halted] == [((2, 4, 3), False)]


def test_guidance_that_begins_late_is_refused(network):
    class Late(Guidance):
        def at(self, block: int, num_blocks: int, sigma: float) -> float:
            return 1.0 if block == 0 else 2.0

    with pytest.raises(UserError, match="guidance cannot begin after the first step"):
        sampled(network, guidance=Late(1.0))
    sampled(network, labels=None, guidance=Late(1.0))


def test_the_past_of_the_network_does_not_see_labels():
    network = tiny_model()
    clean = torch.randn(2, 3, 4, 3, generator=torch.Generator().manual_seed(0))
    states = []
    for labels in (LABELS, LABELS.flip(0)):
        output = network(None, layout=LAYOUT, clean=clean, labels=labels, return_hidden_states=True)
        assert isinstance(output, ACDiTOutput) and isinstance(output.hidden_states, Tensor)
        states.append(output.hidden_states)
    assert torch.equal(*states) and not network.context_sees_labels
