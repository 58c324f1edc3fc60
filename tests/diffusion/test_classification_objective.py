"""The objective of classifiers, against torch's cross-entropy and the law of stochastic depth."""

import hashlib

import pytest
import torch
from scipy.stats import binomtest
from torch.nn.functional import cross_entropy

from acdit.diffusion.classification import ClassificationObjective
from acdit.diffusion.objective import SampleKey
from acdit.model.classifier import ACDiTForImageClassification
from acdit.model.layout import Layout

LAYOUT = Layout((4, 4), (2, 2))
WHOLE = Layout((4, 4), (4, 4))
COUNT, CHANNELS, CLASSES, LAYERS = 6, 3, 5, 3


def network(**config) -> ACDiTForImageClassification:
    torch.manual_seed(0)
    model = ACDiTForImageClassification(CLASSES, CHANNELS, (4, 4), LAYERS, 16, 2, **config).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def key(count: int = COUNT, epoch: int = 0) -> SampleKey:
    return SampleKey(7, [epoch] * count, list(range(count)))


def blocks(layout: Layout = LAYOUT, count: int = COUNT) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(count, layout.num_blocks, layout.block_tokens, CHANNELS).double()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_cross_entropy_of_every_head(smoothing):
    model, data = network(layers=(0, 2, 3), pooling=("mean", "last", "attention")), blocks()
    hard = torch.tensor([0, 1, 2, 3, 4, 0])
    soft = torch.rand(COUNT, CLASSES, dtype=torch.float64).softmax(1)
    logits = model(data, layout=LAYOUT).logits
    for labels in (hard, soft):
        losses = ClassificationObjective(smoothing).loss(model, data, layout=LAYOUT, key=key(), labels=labels)
        assert losses.blocks == (0, 1, 2) and losses.per_view.shape == (COUNT, 3)
        for head in range(3):
            expected = cross_entropy(logits[:, head], labels, label_smoothing=smoothing, reduction="none")
            assert torch.allclose(losses.per_view[:, head], expected, rtol=1e-12)
            best = logits[:, head].argmax(1)
            named = (best == hard).double() if labels is hard else soft[range(COUNT), best]
            assert losses.correct is not None and torch.equal(losses.correct[:, head], named)
    assert torch.allclose(losses.mean, losses.per_view.sum(1).mean()) and losses.per_sample.shape == (COUNT,)


def test_branches_are_dropped_at_the_rates_of_their_layers():
    count, rate = 3000, 0.4
    scales = ClassificationObjective(drop_path=rate)._branch_scale(LAYERS, key(count), torch.empty(0))
    assert scales is not None and scales.shape == (count, LAYERS, 2)
    for layer, dropped in enumerate((0.0, rate / 2, rate)):  # linear from 0 to the rate
        kept = scales[:, layer][scales[:, layer] != 0]
        assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - dropped)))
        lost = int((scales[:, layer] == 0).sum())
        assert binomtest(lost, 2 * count, dropped).pvalue > 1e-3
    both = ((scales[:, 2] == 0).double().mean(0).prod(), (scales[:, 2] == 0).all(1).double().mean())
    assert abs(both[0] - both[1]) < 0.03  # attention and MLP are dropped independently


def test_dropped_branches_leave_the_input_of_the_layer(monkeypatch):
    model, data = network(), blocks()
    objective = ClassificationObjective(drop_path=0.5)
    monkeypatch.setattr(objective, "_branch_scale", lambda *_: torch.zeros(COUNT, LAYERS, 2).double())
    labels = torch.arange(COUNT) % CLASSES
    found = objective.loss(model, data, layout=LAYOUT, key=key(), labels=labels).per_view[:, 0]
    embedded = model.transformer.x_embedder(data)  # nothing is added to it
    expected = cross_entropy(model.heads[0](embedded), labels, reduction="none")
    assert torch.allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("form", ["drop path", "noise"])
def test_draws_belong_to_samples_and_epochs_and_not_to_batches(form):
    noised = form == "noise"
    layout = WHOLE if noised else LAYOUT
    model = network(timestep=300, prediction_type="flow_prediction") if noised else network()
    objective = ClassificationObjective(drop_path=0.0 if noised else 0.5)
    data, labels = blocks(layout), torch.arange(COUNT) % CLASSES

    def losses(rows: list[int], epoch: int = 0) -> torch.Tensor:
        own = SampleKey(7, [epoch] * len(rows), rows)
        return objective.loss(model, data[rows], layout=layout, key=own, labels=labels[rows]).per_view

    whole = losses(list(range(COUNT)))
    assert torch.allclose(whole, torch.cat([losses([0, 1]), losses([2, 3, 4, 5])]), rtol=1e-9)
    assert torch.allclose(whole.flip(0), losses(list(range(COUNT))[::-1]), rtol=1e-9)
    assert not torch.allclose(whole, losses(list(range(COUNT)), epoch=1), rtol=1e-3)


def test_dropped_branches_are_keyed_by_seed_purpose_epoch_and_index():
    """By the definition of the key, a hash of everything that the draw depends on."""
    rate, epochs, indices = 0.4, [0, 0, 3, 1], [5, 2, 5, 5]
    for seed in (7, 8):
        own = SampleKey(seed, epochs, indices)
        scales = ClassificationObjective(drop_path=rate)._branch_scale(LAYERS, own, torch.empty(0))
        assert scales is not None
        for row, (epoch, index) in enumerate(zip(epochs, indices, strict=True)):
            text = repr((seed, "drop path", epoch, index)).encode()
            number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
            drawn = torch.rand(LAYERS, 2, generator=torch.Generator().manual_seed(number))
            kept = torch.tensor([[1.0], [1 - rate / 2], [1 - rate]])
            assert torch.allclose(scales[row], (drawn < kept) / kept)


def test_labels_are_needed():
    with pytest.raises(ValueError, match="needs labels"):
        ClassificationObjective().loss(network(), blocks(), layout=LAYOUT, key=key())
