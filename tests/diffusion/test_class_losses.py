"""Losses given each class, against single calls of the network, closed forms and enumerations."""

import itertools
import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from acdit.diffusion import class_losses
from acdit.diffusion.class_losses import ClassLosses, denoising_class_losses, token_class_losses
from acdit.diffusion.continuous import DiffusionObjective
from acdit.diffusion.likelihood import all_masks, nelbo
from acdit.diffusion.schedulers import LINEAR_BETAS
from acdit.model.layout import Layout
from acdit.utils.errors import UserError
from acdit.utils.randomness import generator
from tests.tiny import relative_error, tiny_inputs, tiny_model

LAYOUT, CLASSES, INDICES = Layout((6, 6), (3, 3)), 5, [7, 2, 30]
TEXT = Layout((3,), (1,))


@pytest.fixture(scope="module")
def model():
    return tiny_model(dtype=torch.float64)


@pytest.fixture(scope="module")
def blocks():
    return tiny_inputs(LAYOUT, 3, dtype=torch.float64).clean


def losses_of(model, blocks, indices=INDICES, draws=3, prediction: Any = "epsilon"):
    settings = {"prediction": prediction, "seed": 4, "indices": indices, "draws": draws}
    return denoising_class_losses(model, blocks, LAYOUT, **settings).values


@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow"])
def test_losses_are_those_of_single_calls(model, blocks, prediction, monkeypatch):
    """One class, one draw and one block at a time, with the draws by their keys."""
    process, expected = DiffusionObjective(prediction), torch.zeros(3, CLASSES, 3, dtype=torch.float64)
    step = (math.sqrt(5) - 1) / 2
    for row, index in enumerate(INDICES):
        starts = torch.rand(4, generator=generator(4, "generative classifier", index, "times"))
        for draw, block in itertools.product(range(3), range(4)):
            noise = torch.randn(4, 9, 3, generator=generator(4, "generative classifier", index, draw))
            time = 1000 * ((starts[block].double() + draw * step) % 1).float()
            time = time.double() if prediction == "flow" else time.double().floor()
            data = blocks[row, block].view(1, 1, 9, 3)
            noised, target = process.corrupt(data, noise[block].view(1, 1, 9, 3).double(), time.view(1, 1))
            for label in range(CLASSES):
                with torch.no_grad():
                    predicted = model(
                        noised,
                        time.view(1, 1),
                        layout=LAYOUT,
                        blocks=[block],
                        clean=blocks[row : row + 1, :block] if block else None,
                        labels=torch.tensor([label]),
                    ).sample
                expected[row, label, draw] += (predicted - target).square().mean()
    assert expected.std(dim=1).min() > 1e-3  # the classes differ
    whole = losses_of(model, blocks, prediction=prediction)
    assert relative_error(whole, expected) < 1e-9
    monkeypatch.setattr(class_losses, "MAX_TOKENS", 36 * 4)  # one sample, four pairs of draw and class
    assert relative_error(losses_of(model, blocks, prediction=prediction), expected) < 1e-9


def test_losses_depend_neither_on_the_batch_nor_on_its_order(model, blocks):
    whole = losses_of(model, blocks)
    turned = losses_of(model, blocks[[2, 0]], [INDICES[2], INDICES[0]])
    assert relative_error(turned, whole[[2, 0]]) < 1e-9
    assert relative_error(losses_of(model, blocks, draws=2), whole[..., :2]) < 1e-9  # the first of more draws
    assert not torch.allclose(losses_of(model, blocks, [1, 2, 30])[0], whole[0])


class Gaussians:
    """Best predictor of the noise for data that are normal around the mean of each class."""

    means, deviation = torch.tensor([-1.0, 0.0, 0.5], dtype=torch.float64), 0.4
    config: Any = {"num_classes": 3, "time_conditioning": True}
    context_sees_labels = False

    def __init__(self):
        signal = (1 - torch.linspace(LINEAR_BETAS["beta_start"], LINEAR_BETAS["beta_end"], 1000)).double()
        self.signal, self.noise = signal.cumprod(0).sqrt(), (1 - signal.cumprod(0)).sqrt()

    def __call__(self, noised, timestep, *, labels, **_):
        a, b = (level[timestep.long()][..., None, None] for level in (self.signal, self.noise))
        mean = self.means[labels][..., None, None]
        return SimpleNamespace(sample=b * (noised - a * mean) / (a**2 * self.deviation**2 + b**2))


def test_the_losses_of_gaussians_have_their_closed_form():
    """For data x, the error is n (1 - b^2 / v) - a b (x - mean) / v with v = a^2 s^2 + b^2."""
    stub, data = Gaussians(), torch.tensor([[[[0.45], [0.2]], [[0.3], [0.9]]]], dtype=torch.float64)
    layout = Layout((2, 2), (1, 2))
    losses = denoising_class_losses(
        cast(Any, stub), data, layout, prediction="epsilon", seed=0, indices=[0], draws=3000
    )
    a, b = stub.signal, stub.noise
    v = a**2 * stub.deviation**2 + b**2
    gaps = (data - stub.means.view(-1, 1, 1, 1)).square().mean(-1).mean(-1).sum(1)  # (K,), summed over blocks
    expected = [(2 * (1 - b**2 / v) ** 2 + (a * b / v) ** 2 * gap).mean() for gap in gaps]
    for label in range(3):
        values = losses.values[0, label]
        assert values.mean() == pytest.approx(float(expected[label]), abs=4 * float(values.std()) / 3000**0.5)
    margin, error = losses.margins()
    assert losses.means.argmin() == gaps.argmin() == 2
    assert margin == pytest.approx(float(expected[1] - expected[2]), abs=4 * float(error))
    apart = math.hypot(*(float(losses.values[0, label].std()) for label in (1, 2))) / 3000**0.5
    assert 0 < error < apart / 1.5  # since the classes share the noise


def test_margins_and_their_errors():
    values = torch.tensor([[[3.0, 5], [1, 2], [9, 9]], [[1, 1], [1, 3], [1, 1.5]]], dtype=torch.float64)
    margins, errors = ClassLosses(values).margins()
    assert margins.tolist() == [2.5, 0.25]
    assert errors.tolist() == pytest.approx([0.5, 0.25])  # differences of 2 and 3, and of 0 and 0.5
    assert ClassLosses(values[..., :1]).margins()[1].isnan().all()
    assert (ClassLosses(values[..., :1], exact=True).margins()[1] == 0).all()


def text_model(**config: Any):
    text = {"in_channels": None, "axis_lengths": (3,), "time_conditioning": False, "vocab_size": 4}
    return tiny_model(dtype=torch.float64, **(text | {"num_classes": 2} | config))


def token_losses(model, tokens, layout=TEXT, lengths=None, draws=4, **settings):
    count = len(tokens)
    lengths = torch.full((count,), tokens.shape[1]) if lengths is None else lengths
    return token_class_losses(
        model, tokens, lengths, layout, seed=1, indices=range(count), draws=draws, **settings
    )


def test_blocks_of_one_token_give_a_distribution_over_texts_for_each_class():
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))
    losses = token_losses(text_model(), every)
    assert losses.exact and losses.values.shape == (27, 2, 1)
    model, labels = text_model(), torch.tensor([0, 1])
    for text, expected in ((every[5], losses.values[5, :, 0]), (every[21], losses.values[21, :, 0])):
        total = torch.zeros(2, dtype=torch.float64)
        for place, token in enumerate(text):
            with torch.no_grad():
                logits = model(
                    torch.full((2, 1, 1), 3),
                    layout=TEXT,
                    blocks=[place],
                    clean=text[:place].view(1, -1, 1).expand(2, -1, 1) if place else None,
                    labels=labels,
                ).sample[:, 0, 0]
            total -= logits[:, :3].log_softmax(-1)[:, token]
        assert relative_error(expected, total) < 1e-9
    assert torch.allclose((-losses.values[..., 0]).exp().sum(0), torch.ones(2, dtype=torch.float64))
    assert (losses.values[:, 0] - losses.values[:, 1]).abs().min() > 1e-6


def test_texts_that_end_early_count_their_own_tokens():
    tokens = torch.tensor([[0, 1, 2], [0, 1, 0]])
    short = token_losses(text_model(), tokens, lengths=torch.tensor([2, 2])).values
    assert torch.allclose(short[0], short[1])
    assert (short < token_losses(text_model(), tokens).values).all()


def test_larger_blocks_give_the_nelbo_of_each_class():
    layout, model = Layout((4,), (2,)), text_model(axis_lengths=(4,))
    tokens = torch.tensor([[0, 1, 2, 2], [1, 1, 0, 2]])
    losses = token_losses(model, tokens, layout)
    cut, masks = layout.to_blocks(tokens), all_masks(torch.tensor([4, 4]), layout)
    for label in range(2):
        labels = torch.full((masks.weights.shape[2],), label)
        assert (
            relative_error(losses.values[:, label, 0], nelbo(model, cut, layout, masks, labels).sum((1, 2)))
            < 1e-9
        )
    assert losses.exact


def test_estimates_share_their_draws_and_have_the_mean_of_the_sum():
    layout, model = Layout((5,), (5,)), text_model(axis_lengths=(5,))
    tokens = torch.tensor([[0, 1, 2, 2, 1]])
    drawn = token_losses(model, tokens, layout, draws=600)
    assert not drawn.exact and drawn.values.shape == (1, 2, 600)
    masks = all_masks(torch.tensor([5]), layout)
    for label in range(2):
        exact = nelbo(model, layout.to_blocks(tokens), layout, masks, torch.full((31,), label)).sum()
        values = drawn.values[0, label]
        assert values.mean() == pytest.approx(float(exact), abs=4 * float(values.std()) / 600**0.5)
    timed = token_losses(text_model(axis_lengths=(5,), time_conditioning=True), tokens, layout)
    assert not timed.exact and timed.values.shape == (1, 2, 4)


@pytest.mark.parametrize("classes", [None, 1])
def test_a_network_without_classes_is_refused(classes, blocks):
    with pytest.raises(UserError, match=f"several classes, not {classes or 0}: take a model with classes"):
        losses_of(tiny_model(num_classes=classes), blocks.float())


def test_losses_that_are_not_finite_are_refused(model, blocks):
    with pytest.raises(UserError, match="losses are not finite"):
        losses_of(model, blocks * math.inf)
