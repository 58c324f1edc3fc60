"""generate() against an independent loop: no cache, a fresh solver for each block, a call per branch."""

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from torch import Tensor

from acdit.diffusion.generate import FrameNoise, Guidance, StepEnd, draw_noise, generate, steps_per_block
from acdit.diffusion.schedulers import default_sampler
from acdit.model.layout import Layout
from tests.tiny import TINY, relative_error, tiny_inputs, tiny_model

NULL = TINY["num_classes"]
LAYOUT = Layout((4, 4), (2, 2))
LABELS = torch.tensor([1, 3])
BETAS = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
SCHEDULERS = {
    "DPM-Solver": lambda: default_sampler("epsilon"),
    "DPM-Solver, flow": lambda: default_sampler("flow"),
    "DDIM": lambda: DDIMScheduler(**BETAS, clip_sample=False),
    "DDPM": lambda: DDPMScheduler(**BETAS, clip_sample=False),
    "flow Euler": lambda: FlowMatchEulerDiscreteScheduler(),
}
TOLERANCE = 1e-5


def generators():
    return [torch.Generator().manual_seed(seed) for seed in (21, 22)]


def noise(batch=2):
    return draw_noise(range(batch), LAYOUT, 3)


def sampled(model, **options):
    """All generated blocks (N, T, B, C), or those after the prefix."""
    options = {"scheduler": default_sampler("epsilon"), "steps": 4, "labels": LABELS} | options
    initial = options.pop("noise", noise())
    layout = options.pop("layout", LAYOUT)
    with torch.no_grad():
        return torch.stack([block.sample for block in generate(model, layout, initial, **options)], 1)


def loop(
    model: Any,
    scheduler: Any,
    layout: Layout = LAYOUT,
    steps: Any = 4,
    scale: Callable[[int, int], float] = lambda block, step: 1.0,
    change: Callable[[Tensor], Tensor] = lambda sample: sample,
    seeds: list[torch.Generator] | None = None,
) -> Tensor:
    """The same without cache: every step is a teacher-forced call over the finished blocks."""
    initial = draw_noise(range(2), layout, 3)
    finished = []
    for index in range(layout.num_blocks):
        solver = copy.deepcopy(scheduler)
        solver.set_timesteps(steps if isinstance(steps, int) else steps[index])
        x = initial[:, index]
        for step, timestep in enumerate(solver.timesteps):
            answers = []
            for label in (LABELS, torch.full_like(LABELS, NULL)):
                with torch.no_grad():
                    answer = model(
                        x[:, None],
                        torch.full((2, 1), float(timestep)),
                        layout=layout,
                        blocks=[index],
                        clean=torch.stack(finished, 1) if finished else None,
                        labels=label,
                    ).sample[:, 0]
                answers.append(answer)
            conditional, unconditional = answers
            guided = unconditional + scale(index, step) * (conditional - unconditional)
            extra = {} if seeds is None else {"generator": seeds}
            x = change(solver.step(guided, timestep, x, **extra).prev_sample)
        finished.append(x)
    return torch.stack(finished, 1)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


class Calls:
    """Counts the calls of a network, by the number of views in each."""

    def __init__(self, network):
        self.views = Counter()
        self._handle = network.register_forward_pre_hook(self._count)

    def _count(self, module, arguments):
        self.views[arguments[0].shape[1]] += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._handle.remove()


@pytest.mark.parametrize("scale", [1.0, 1.5, 0.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_equals_the_loop(model, name, scale):
    seeds = name == "DDPM"
    given = sampled(
        model,
        scheduler=SCHEDULERS[name](),
        guidance=Guidance(scale),
        generators=generators() if seeds else None,
    )
    expected = loop(
        model, SCHEDULERS[name](), scale=lambda block, step: scale, seeds=generators() if seeds else None
    )
    assert relative_error(given, expected) < TOLERANCE


def test_scale_1_is_the_conditional_network_alone(model):
    with Calls(model) as calls:
        plain = sampled(model)
        one = sampled(model, guidance=Guidance(1.0))
    assert torch.equal(plain, one) and calls.views == {1: 2 * 16}
    guided = sampled(model, guidance=Guidance(1.5))
    unconditional = sampled(model, labels=None)
    assert relative_error(guided, plain) > 1e-3 and relative_error(unconditional, plain) > 1e-3
    assert relative_error(unconditional, sampled(model, labels=torch.full((2,), NULL))) < TOLERANCE


def test_without_labels_there_is_no_guidance(model):
    with Calls(model) as calls:
        given = sampled(model, labels=None, guidance=Guidance(3.0))
    assert torch.equal(given, sampled(model, labels=None)) and set(calls.views) == {1}


def test_guidance_rises_over_the_blocks(model):
    guidance = Guidance(4.0, rising=True)
    assert [guidance.at(block, 4, 1.0) for block in range(4)] == [1, 2, 3, 4]
    assert guidance.at(0, 1, 1.0) == 1
    expected = loop(model, default_sampler("epsilon"), scale=lambda block, step: 1.0 + block)
    assert relative_error(sampled(model, guidance=guidance), expected) < TOLERANCE


@pytest.mark.parametrize("name", ["DPM-Solver", "DDIM", "flow Euler"])
def test_guidance_acts_in_an_interval_of_sigma(model, name):
    """Sigma is sqrt((1 - alpha) / alpha) by the definition of the noise process, t / 1000 for flow."""
    scheduler = SCHEDULERS[name]()
    scheduler.set_timesteps(4)
    steps = scheduler.timesteps
    if name == "flow Euler":
        sigmas, interval = steps / 1000, (0.4, 0.9)
    else:
        alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[steps.long()]
        sigmas, interval = ((1 - alphas) / alphas).sqrt(), (0.2, 10.0)
    inside = [interval[0] <= float(sigma) <= interval[1] for sigma in sigmas]
    assert 0 < sum(inside) < 4
    with Calls(model) as calls:
        given = sampled(model, scheduler=SCHEDULERS[name](), guidance=Guidance(2.0, interval=interval))
    assert calls.views == {2: 4 * sum(inside), 1: 4 * (4 - sum(inside))}
    expected = loop(model, SCHEDULERS[name](), scale=lambda block, step: 2.0 if inside[step] else 1.0)
    assert relative_error(given, expected) < TOLERANCE


def test_steps_per_block_and_evaluations(model):
    with torch.no_grad(), Calls(model) as calls:
        options = {"scheduler": default_sampler("epsilon"), "steps": [3, 1, 4, 2], "labels": LABELS}
        blocks = list(generate(model, LAYOUT, noise(), guidance=Guidance(1.5), **options))
    assert [block.index for block in blocks] == [0, 1, 2, 3]
    assert [block.evaluations for block in blocks] == [3, 1, 4, 2] and calls.views == {2: 10}
    expected = loop(model, default_sampler("epsilon"), steps=[3, 1, 4, 2], scale=lambda block, step: 1.5)
    assert relative_error(torch.stack([block.sample for block in blocks], 1), expected) < TOLERANCE


def test_evaluations_of_a_solver_with_several_a_step(model):
    """Heun's method calls the network twice a step, but once in the last."""
    with torch.no_grad(), Calls(model) as calls:
        options = {"scheduler": HeunDiscreteScheduler(**BETAS), "steps": 3, "labels": LABELS}
        blocks = list(generate(model, LAYOUT, noise(), **options))
    assert [block.evaluations for block in blocks] == [5] * 4 and calls.views == {1: 20}


def test_steps_that_are_wrong(model):
    assert steps_per_block(3, 2) == [3, 3] and steps_per_block((1, 2), 2) == [1, 2]
    for steps in (0, [1, 2, 3], [1, 2, 3, 0], []):
        with pytest.raises(ValueError, match="steps must be"):
            sampled(model, steps=steps)


@pytest.mark.parametrize("kept", [1, 3, 4])
def test_a_prefix_is_continued(model, kept):
    whole = sampled(model, guidance=Guidance(1.5))
    with torch.no_grad():
        options = {"scheduler": default_sampler("epsilon"), "steps": 4, "labels": LABELS}
        blocks = generate(model, LAYOUT, noise(), guidance=Guidance(1.5), prefix=whole[:, :kept], **options)
        rest = list(blocks)
    assert [block.index for block in rest] == list(range(kept, 4))
    for block in rest:
        assert relative_error(block.sample, whole[:, block.index]) < TOLERANCE
    if kept < 4:
        other = sampled(model, guidance=Guidance(1.5), prefix=whole[:, :kept] + 1)
        assert relative_error(other[:, 0], whole[:, kept]) > 1e-3


@pytest.mark.parametrize("block", [(4, 4), (1, 4), (2, 1)])
def test_layouts_of_one_network(model, block):
    layout = Layout((4, 4), block)
    given = sampled(model, layout=layout, noise=draw_noise(range(2), layout, 3))
    assert relative_error(given, loop(model, default_sampler("epsilon"), layout)) < TOLERANCE


def test_the_cache_holds_all_but_the_last_block(model):
    def held(layout):
        initial = draw_noise(range(2), layout, 3)
        blocks = generate(
            model, layout, initial, scheduler=default_sampler("epsilon"), steps=1, labels=LABELS
        )
        return [block.cache and (block.cache.num_blocks, block.cache.capacity) for block in blocks]

    assert held(LAYOUT) == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert held(Layout((4, 4), (4, 4))) == [None]


def test_the_scheduler_is_not_changed(model):
    scheduler = default_sampler("epsilon")
    before = copy.deepcopy(vars(scheduler))
    first = sampled(model, scheduler=scheduler)
    assert vars(scheduler).keys() == before.keys()
    assert torch.equal(scheduler.timesteps, before["timesteps"]) and scheduler.step_index is None
    assert torch.equal(sampled(model, scheduler=scheduler), first)


def test_callbacks_count_steps_over_all_blocks_and_may_replace_the_sample(model):
    seen: list[StepEnd] = []
    plain = sampled(model, on_step=seen.append)
    assert [(end.step, end.block) for end in seen] == [(step, step // 4) for step in range(16)]
    assert [int(end.timestep) for end in seen[:4]] == [int(end.timestep) for end in seen[4:8]]
    assert all(torch.equal(seen[4 * block + 3].sample, plain[:, block]) for block in range(4))

    given = tiny_inputs(LAYOUT).clean[:, 0]

    def replace(end: StepEnd):
        return given if end.step == 3 else None

    replaced = sampled(model, on_step=replace)
    assert torch.equal(replaced[:, 0], given)
    assert relative_error(replaced[:, 1:], sampled(model, prefix=given[:, None])) < TOLERANCE

    halved = sampled(model, on_step=lambda end: end.sample / 2)
    expected = loop(model, default_sampler("epsilon"), change=lambda sample: sample / 2)
    assert relative_error(halved, expected) < TOLERANCE


def test_a_sample_depends_on_its_own_seed_alone(model):
    both = sampled(model, scheduler=SCHEDULERS["DDPM"](), generators=generators())
    one = sampled(
        model,
        scheduler=SCHEDULERS["DDPM"](),
        generators=generators()[1:],
        labels=LABELS[1:],
        noise=noise()[1:],
    )
    assert relative_error(one, both[1:]) < TOLERANCE
    others = sampled(model, scheduler=SCHEDULERS["DDPM"](), generators=generators()[::-1])
    assert relative_error(others, both) > 1e-3


def test_sampling_keeps_no_graph(model):
    """Without torch.no_grad around it too: 25 steps of activations would stay in memory otherwise."""
    blocks = list(
        generate(model, LAYOUT, noise(), scheduler=default_sampler("epsilon"), steps=1, labels=LABELS)
    )
    assert not any(block.sample.requires_grad for block in blocks)
    assert torch.is_grad_enabled()


def test_sampling_in_bfloat16_steps_in_float32():
    given = sampled(tiny_model(dtype=torch.bfloat16))
    assert given.dtype == torch.float32 and relative_error(given, sampled(tiny_model())) < 0.2


@pytest.mark.parametrize(
    "layouts",
    [
        [Layout((4, 4), block, (2, 2)) for block in ((4, 4), (2, 2), (4, 1), (1, 1))],
        [Layout((4, 2, 2), block, (1, 2, 2)) for block in ((4, 2, 2), (1, 2, 2), (2, 1, 1))],
    ],
    ids=["image", "video"],
)
def test_a_seed_is_the_same_noise_at_every_block_size(layouts):
    grids = [layout.from_blocks(draw_noise([5, 6], layout, 3)) for layout in layouts]
    assert grids[0].shape == (2, 3, *layouts[0].size)
    assert all(torch.equal(grid, grids[0]) for grid in grids)
    assert relative_error(grids[0][0], grids[0][1]) > 0.1


def test_noise_of_seeds_and_generators():
    layout = Layout((32, 32), (8, 8))
    drawn = draw_noise([5, 6, 5], layout, 4)
    assert drawn.shape == (3, 16, 64, 4) and torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[1:2], draw_noise([6], layout, 4))
    assert torch.equal(drawn[0], draw_noise([torch.Generator().manual_seed(5)], layout, 4)[0])
    assert abs(drawn[:2].mean()) < 0.05 and abs(drawn[:2].std() - 1) < 0.05
    expected = torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(6))
    assert torch.equal(layout.from_blocks(drawn)[1], expected)


def test_noise_of_a_frame_is_the_same_in_any_block_and_length():
    clips = []
    for frames, block in ((4, (2, 2, 2)), (4, (1, 2, 2)), (8, (2, 1, 2)), (12, (4, 2, 1))):
        layout = Layout((frames, 2, 2), block, (1, 2, 2))
        drawn = FrameNoise([5, 6], layout, 3, torch.device("cpu"))
        blocks = torch.stack([drawn(index) for index in range(layout.num_blocks)], 1)
        clips.append(layout.from_blocks(blocks))  # (N, C, F, H, W)
        assert torch.equal(drawn(1), blocks[:, 1])  # asked for once more, out of order
    for clip in clips[1:]:
        assert torch.equal(clip[:, :, :4], clips[0])
    frames = clips[3].transpose(1, 2).flatten(0, 1).flatten(1)  # (N F, values)
    assert len(frames.unique(dim=0)) == 24  # each frame of each sample has its own
    assert abs(frames.mean()) < 0.1 and abs(frames.std() - 1) < 0.1
