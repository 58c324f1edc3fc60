"""The continuous objective against diffusers' schedulers, closed forms and separate passes."""

import math
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from acdit.diffusion.continuous import DiffusionObjective
from acdit.diffusion.objective import SampleKey
from acdit.diffusion.schedulers import default_sampler
from acdit.model.layout import Layout
from tests.objective import LAYOUT, NULL, PREDICTIONS, Recorder, asked, key_of, perfect, share_of_data
from tests.tiny import relative_error, tiny_inputs, tiny_model


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_targets_are_those_of_diffusers(prediction):
    given = tiny_inputs(LAYOUT)
    scheduler = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    noised, target = DiffusionObjective(prediction).corrupt(given.clean, given.noised, given.timestep)
    for sample in range(2):
        for view in range(4):
            data, noise = given.clean[sample, view][None], given.noised[sample, view][None]
            steps = given.timestep[sample, view].long()[None]
            expected = scheduler.add_noise(data, noise, steps)  # pyright: ignore[reportArgumentType]
            velocity = scheduler.get_velocity(data, noise, steps)  # pyright: ignore[reportArgumentType]
            assert torch.equal(noised[sample, view], expected[0])
            assert torch.equal(target[sample, view], velocity[0] if prediction == "v" else noise[0])


def test_flow_targets_are_those_of_diffusers():
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0)
    given = tiny_inputs(LAYOUT)
    timesteps = torch.as_tensor(scheduler.timesteps)[given.timestep.long()]
    noised, target = DiffusionObjective("flow").corrupt(given.clean, given.noised, timesteps)
    for sample in range(2):
        for view in range(4):
            data, noise = given.clean[sample, view][None], given.noised[sample, view][None]
            steps = timesteps[sample, view][None]
            expected = scheduler.scale_noise(data, steps, noise)  # pyright: ignore[reportArgumentType]
            assert relative_error(noised[sample, view], torch.as_tensor(expected)[0]) < 1e-6
            assert torch.equal(target[sample, view], noise[0] - data[0])


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_float64_stays_float64(prediction):
    given = tiny_inputs(LAYOUT, dtype=torch.float64)
    noised, target = DiffusionObjective(prediction).corrupt(given.clean, given.noised, given.timestep)
    assert noised.dtype == target.dtype == torch.float64


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_predictor_has_no_loss(prediction):
    data = tiny_inputs(LAYOUT, batch=4).clean
    options = {"layout": LAYOUT, "key": key_of(4)}
    objective = DiffusionObjective(prediction)
    losses = objective.loss(Recorder(perfect(prediction, data)), data, **options)
    assert losses.per_view.shape == (4, 4) and losses.mean < 1e-6
    assert objective.loss(Recorder(), data, **options).mean > 0.5


def test_losses_are_mean_squared_errors_of_views():
    given = tiny_inputs(LAYOUT)
    network = Recorder()
    losses = DiffusionObjective("flow").loss(
        network, given.clean, layout=LAYOUT, key=key_of(2), blocks=(1, 3), draws=(0, 1)
    )
    assert losses.blocks == network.blocks == (1, 1, 3, 3)
    assert torch.equal(losses.timesteps, network.timestep)
    data = given.clean[:, [1, 1, 3, 3]]
    target = (network.noised - data) / (network.timestep / 1000)[..., None, None]  # noise - data
    for sample in range(2):
        for view in range(4):
            expected = float((target[sample, view] ** 2).sum() / 12)
            assert float(losses.per_view[sample, view]) == pytest.approx(expected, rel=1e-4)
    assert float(losses.mean) == pytest.approx(float(losses.per_view.sum()) / 8)


def test_the_network_is_given_what_its_views_need():
    data = tiny_inputs(LAYOUT).clean
    everything = asked(data=data)
    assert everything.blocks == (0, 1, 2, 3) and everything.layout is LAYOUT and everything.labels is None
    assert everything.clean is not None and torch.equal(everything.clean, data[:, :3])
    some = asked(data=data, blocks=(0, 2))
    assert some.clean is not None and torch.equal(some.clean, data[:, :2])
    assert asked(data=data, blocks=(0,)).clean is None


def parameter_gradients(model, data, labels, draws):
    model.zero_grad()
    losses = DiffusionObjective("epsilon").loss(
        model, data, layout=LAYOUT, key=key_of(len(data)), labels=labels, null_label=NULL, draws=draws
    )
    losses.mean.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_draws_give_the_mean_gradient_of_separate_passes():
    model, given = tiny_model(dtype=torch.float64), tiny_inputs(LAYOUT, dtype=torch.float64)
    together = parameter_gradients(model, given.clean, given.labels, range(3))
    apart = [parameter_gradients(model, given.clean, given.labels, (draw,)) for draw in range(3)]
    assert relative_error(apart[0]["x_embedder.weight"], apart[1]["x_embedder.weight"]) > 1e-3
    for name, gradient in together.items():
        mean = torch.stack([gradients[name] for gradients in apart]).mean(0)
        assert relative_error(gradient, mean) < 1e-9, name


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_draws_depend_on_their_key_alone(prediction):
    objective = DiffusionObjective(prediction, label_dropout=0.5)
    data, labels = tiny_inputs(LAYOUT, batch=6).clean, torch.tensor([0, 1, 2, 3, 4, 0])
    epochs, indices = [0, 0, 1, 1, 2, 5], [7, 8, 7, 11, 12, 3]

    def draw(rows, **options):
        key = SampleKey(3, [epochs[row] for row in rows], [indices[row] for row in rows])
        return asked(objective, data[rows], key=key, labels=labels[rows], null_label=NULL, **options)

    whole = draw(list(range(6)))
    for rows in ([5, 2, 0], [1], [3, 4]):  # another order, another split
        part = draw(rows)
        assert torch.equal(part.noised, whole.noised[rows]) and torch.equal(
            part.timestep, whole.timestep[rows]
        )
        assert torch.equal(part.labels, whole.labels[rows])
    some = draw([0, 1], blocks=(1, 3))  # a subset of the blocks
    assert torch.equal(some.noised, whole.noised[:2, [1, 3]])
    assert torch.equal(some.timestep, whole.timestep[:2, [1, 3]])
    twice = draw([0, 1], draws=(0, 4))  # one draw of several
    assert torch.equal(twice.noised[:, ::2], whole.noised[:2])
    assert torch.equal(twice.noised[:, 1::2], draw([0, 1], draws=(4,)).noised)


def test_every_part_of_the_key_counts():
    data = tiny_inputs(LAYOUT, batch=1).clean
    keys = [(0, [0], [0]), (1, [0], [0]), (0, [1], [0]), (0, [0], [1])]
    drawn = [asked(data=data, key=SampleKey(*key)).noised for key in keys]
    drawn.append(asked(data=data, draws=(1,)).noised)
    for a in range(len(drawn)):
        for b in range(a):
            assert relative_error(drawn[a], drawn[b]) > 0.1


def test_every_block_has_its_own_timestep_and_noise():
    network = asked(data=torch.zeros(1, 4, 4, 3))
    assert len(set(network.timestep.flatten().tolist())) == 4
    noise = network.noised / (1 - share_of_data(network.timestep) ** 2).sqrt()[..., None, None]
    assert torch.unique(noise).numel() == 4 * 4 * 3


def timesteps_drawn(objective, batch=400):
    layout = Layout((16,), (1,))
    return asked(objective, torch.zeros(batch, 16, 1, 1), layout=layout).timestep.double().flatten()


def test_uniform_timesteps():
    steps = timesteps_drawn(DiffusionObjective("epsilon"))  # 6400 draws
    assert torch.equal(steps, steps.floor()) and 0 <= steps.min() < 5 and 995 <= steps.max() <= 999
    assert torch.histc(steps, 8, 0, 1000).sub(800).abs().max() < 4 * math.sqrt(800)
    flow = timesteps_drawn(DiffusionObjective("flow"))
    assert not torch.equal(flow, flow.floor()) and flow.min() >= 0 and flow.max() < 1000


def test_logit_normal_timesteps():
    steps = timesteps_drawn(DiffusionObjective("flow", timesteps="logit_normal"))
    normal = torch.logit(steps / 1000)
    assert abs(normal.mean()) < 4 / math.sqrt(6400) and abs(normal.std() - 1) < 4 / math.sqrt(2 * 6400)
    assert abs((normal**4).mean() - 3) < 4 * math.sqrt(96 / 6400)
    whole = timesteps_drawn(DiffusionObjective("epsilon", timesteps="logit_normal"))
    assert torch.equal(whole, steps.floor())
    moved = timesteps_drawn(DiffusionObjective("flow", timesteps="logit_normal", timestep_location=1.5))
    torch.testing.assert_close(torch.logit(moved / 1000), normal + 1.5, atol=1e-3, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_share_of_dropped_labels(share):
    layout, batch = Layout((2,), (1,)), 1500
    labels = torch.arange(batch) % NULL
    network = asked(
        DiffusionObjective(label_dropout=share),
        torch.zeros(batch, 2, 1, 1),
        layout=layout,
        key=key_of(batch),
        labels=labels,
        null_label=NULL,
        draws=(0, 1),
    )
    seen = network.labels.view(batch, 2, 2)  # (N, blocks, draws)
    dropped = seen == NULL
    assert torch.equal(dropped[:, 0], dropped[:, 1]), "a draw drops the label of the whole sample"
    assert torch.equal(seen[~dropped], labels[:, None, None].expand_as(seen)[~dropped])
    count = float(dropped[:, 0].sum())
    assert abs(count - 2 * batch * share) <= 4 * math.sqrt(2 * batch * share * (1 - share))
    if 0 < share < 1:
        assert not torch.equal(dropped[..., 0], dropped[..., 1])


def test_no_null_label_no_dropout():
    network = asked(DiffusionObjective(label_dropout=1.0), labels=torch.tensor([1, 2]))
    assert network.labels.tolist() == [[1] * 4, [2] * 4]


def test_a_dropped_label_is_the_network_s_null():
    model, given = tiny_model(), tiny_inputs(LAYOUT)
    options = {"layout": LAYOUT, "key": key_of(2)}
    with torch.no_grad():
        dropped = DiffusionObjective(label_dropout=1.0).loss(
            model, given.clean, labels=given.labels, null_label=NULL, **options
        )
        unlabelled = DiffusionObjective().loss(model, given.clean, **options)
        labelled = DiffusionObjective(label_dropout=0.0).loss(
            model, given.clean, labels=given.labels, null_label=NULL, **options
        )
    assert relative_error(dropped.per_view, unlabelled.per_view) < 1e-5
    assert relative_error(dropped.per_view, labelled.per_view) > 1e-3


def test_official_solver():
    solver = default_sampler("epsilon")
    solver.set_timesteps(25)
    assert [int(step) for step in solver.timesteps] == [round(999 - 999 * i / 25) for i in range(25)]
    assert [int(step) for step in solver.timesteps[[0, 1, 13, 24]]] == [999, 959, 480, 40]
    expected = {
        "solver_order": 2,
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
        "steps_offset": 0,
    }
    expected |= {"lower_order_final": True, "final_sigmas_type": "zero", "timestep_spacing": "linspace"}
    expected |= {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "num_train_timesteps": 1000}
    expected |= {"prediction_type": "epsilon", "use_karras_sigmas": False, "use_flow_sigmas": False}
    assert {name: solver.config[name] for name in expected} == expected


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_solver_and_objective_mean_the_same(prediction):
    """With the perfect predictor of some data the solver arrives at that data."""
    given = tiny_inputs(LAYOUT)
    data, sample = given.clean[:, 0], given.noised[:, 0]
    solver: Any = default_sampler(prediction)
    solver.set_timesteps(10)
    for timestep, sigma in zip(solver.timesteps, solver.sigmas, strict=False):
        if prediction == "flow":  # the solver rounds its timesteps down
            assert 0 <= 1000 * float(sigma) - float(timestep) < 1
            answer = (sample - data) / sigma
        else:
            answer = perfect(prediction, data)(sample, timestep.expand(2))
        sample = solver.step(answer, int(timestep), sample).prev_sample
    assert relative_error(sample, data) < 1e-5
