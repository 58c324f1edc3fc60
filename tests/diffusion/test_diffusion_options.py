"""Options of the continuous objective that are off by default: noise on the context, min-SNR weights."""

import pytest
import torch

from acdit.diffusion.continuous import DiffusionObjective
from acdit.diffusion.objective import SampleKey
from tests.objective import LAYOUT, NULL, PREDICTIONS, Recorder, asked, key_of, perfect, share_of_data
from tests.tiny import relative_error, tiny_inputs

EPOCHS, INDICES = [0, 0, 1, 1, 2, 5], [7, 8, 7, 11, 12, 3]


def context_noise(rows, scale=0.3, **options):
    """The noise on the context of some samples, (N, 3, B, C), and what else the network was asked."""
    data = tiny_inputs(LAYOUT, batch=6).clean[rows]
    key = SampleKey(3, [EPOCHS[row] for row in rows], [INDICES[row] for row in rows])
    network = asked(DiffusionObjective(context_noise=scale), data, **({"key": key} | options))
    assert network.clean is not None
    return network.clean - data[:, : network.clean.shape[1]], network


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_context_noise_leaves_everything_else_as_it_was(prediction):
    options = {"labels": torch.arange(1, 3), "null_label": NULL}
    plain = asked(DiffusionObjective(prediction, label_dropout=0.5), **options)
    off, noisy = (
        asked(DiffusionObjective(prediction, label_dropout=0.5, context_noise=noise), **options)
        for noise in (0.0, 0.5)
    )
    assert plain.clean is not None and off.clean is not None and noisy.clean is not None
    assert torch.equal(off.clean, plain.clean)
    assert relative_error(noisy.clean, plain.clean) > 0.1
    for other in (off, noisy):
        for name in ("noised", "timestep", "labels"):
            assert torch.equal(getattr(other, name), getattr(plain, name)), name


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_targets_are_those_of_the_clean_data(prediction):
    data = tiny_inputs(LAYOUT, batch=4).clean
    objective = DiffusionObjective(prediction, context_noise=1.0)
    losses = objective.loss(Recorder(perfect(prediction, data)), data, layout=LAYOUT, key=key_of(4))
    assert losses.mean < 1e-6


def test_context_noise_is_gaussian_of_that_deviation():
    data = torch.zeros(400, 4, 4, 3)
    network = asked(DiffusionObjective(context_noise=0.2), data)
    assert network.clean is not None
    drawn = network.clean / 0.2
    count = drawn.numel()
    assert abs(drawn.mean()) < 4 / count**0.5 and abs(drawn.var() - 1) < 4 * (2 / count) ** 0.5
    assert abs((drawn**4).mean() - 3) < 4 * (96 / count) ** 0.5
    noise = network.noised / (1 - share_of_data(network.timestep) ** 2).sqrt()[..., None, None]
    assert abs((noise[:, :3] * drawn).mean()) < 4 / count**0.5  # independent of the noise to be predicted


def test_context_noise_depends_on_its_key_alone():
    whole, _ = context_noise(list(range(6)))
    for rows in ([5, 2, 0], [1], [3, 4]):  # another order, another split
        part, _ = context_noise(rows)
        assert torch.equal(part, whole[rows])
    shorter, _ = context_noise([0, 1], blocks=(0, 2))
    assert torch.equal(shorter, whole[:2, :2])
    for draws in ((4,), (0, 1)):  # draws share one pass over the context
        assert torch.equal(context_noise([0, 1], draws=draws)[0], whole[:2])
    assert relative_error(context_noise([0, 1], scale=0.6)[0], 2 * whole[:2]) < 1e-6
    others = [
        context_noise([0], key=SampleKey(*key))[0] for key in ((4, [0], [7]), (3, [1], [7]), (3, [0], [6]))
    ]
    for other in others:
        assert relative_error(other, whole[:1]) > 0.1


def implied_data(prediction, noised, answer, timesteps):
    """The data that a prediction implies, and the signal-to-noise ratio, by their definitions in float64."""
    if prediction == "flow":
        share = (timesteps / 1000)[..., None, None]
        return noised - share * answer, ((1 - share) / share) ** 2
    kept = share_of_data(timesteps)[..., None, None]
    added = (1 - kept**2).sqrt()
    data = (noised - added * answer) / kept if prediction == "epsilon" else kept * noised - added * answer
    return data, (kept / added) ** 2


@pytest.mark.parametrize("gamma", [0.5, 5.0])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_min_snr_weighs_the_error_of_the_implied_data(prediction, gamma):
    data = tiny_inputs(LAYOUT, batch=100, dtype=torch.float64).clean
    answer = tiny_inputs(LAYOUT, batch=100, seed=1, dtype=torch.float64).noised
    network = Recorder(lambda noised, timestep: answer)
    options = {"layout": LAYOUT, "key": key_of(100)}
    weighted = DiffusionObjective(prediction, min_snr=gamma).loss(network, data, **options)
    plain = DiffusionObjective(prediction).loss(network, data, **options)
    assert torch.equal(weighted.per_view, plain.per_view) and plain.weights is None

    timesteps = network.timestep.double()
    right = perfect(prediction, data)(network.noised, timesteps)
    found, ratio = implied_data(prediction, network.noised, answer, timesteps)
    expected, _ = implied_data(prediction, network.noised, right, timesteps)
    errors = (found - expected).square().mean(dim=(2, 3)) * ratio.clamp(max=gamma)[..., 0, 0]
    assert 0.05 < (ratio < gamma).double().mean() < 0.95  # both sides of the clamp
    assert weighted.weights is not None and weighted.weights.dtype == torch.float64
    # Compared one by one, for the weights span orders of magnitude.
    wrong = (weighted.weights * weighted.per_view / errors - 1).abs()
    # The float32 alpha bar of the noised data makes its targets differ by up to 1e-4 at the first steps.
    assert wrong.max() < 2e-3 and wrong.median() < 1e-5
    assert float(weighted.mean) == pytest.approx(float(errors.mean()), rel=1e-4)


@pytest.mark.parametrize("timestep", [0, 1, 10, 250, 600, 999])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_min_snr_weights_in_closed_form(prediction, timestep):
    step = torch.tensor([[timestep]], dtype=torch.float64)
    kept = float(share_of_data(step)) ** 2
    ratio = kept / (1 - kept)
    expected = {"epsilon": min(ratio, 5) / ratio, "v": min(ratio, 5) / (ratio + 1)}
    share = timestep / 1000
    expected["flow"] = min((1 - share) ** 2, 5 * share**2)
    found = DiffusionObjective(prediction)._weights(step, 5.0)
    assert float(found) == pytest.approx(expected[prediction], rel=1e-5, abs=0)


def test_a_large_gamma_weighs_noise_prediction_as_the_paper_does():
    losses = DiffusionObjective("epsilon", min_snr=1e9).loss(
        Recorder(), tiny_inputs(LAYOUT).clean, layout=LAYOUT, key=key_of(2)
    )
    assert torch.equal(losses.mean, losses.per_view.mean())
