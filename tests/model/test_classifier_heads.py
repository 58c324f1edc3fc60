"""Heads of classifiers: their weights, poolings by loops, and the layers that they read."""

import math

import pytest
import torch

from acdit.model.classifier import ACDiTForImageClassification
from tests.model.classifiers import LAYOUT, classifier, generator, states_by_hooks
from tests.reference import rms_norm
from tests.tiny import given, relative_error, tiny_inputs


def test_weights_are_those_of_the_generator_and_new_heads():
    network = generator()
    built = ACDiTForImageClassification.from_generator(network, 7)
    own = built.state_dict()
    kept = {name for name in network.state_dict() if name.startswith(("x_embedder", "blocks"))}
    kept = {name for name in kept if "adaLN" not in name}
    assert {name.removeprefix("transformer.") for name in own if not name.startswith("heads.")} == kept
    assert all(torch.equal(own[f"transformer.{name}"].double(), network.state_dict()[name]) for name in kept)
    logits = built.double()(tiny_inputs(LAYOUT, dtype=torch.float64).clean, layout=LAYOUT).logits
    assert logits.shape == (2, 1, 7) and not logits.any()


@pytest.mark.parametrize(
    ("pooling", "queries"), [("mean", 1), ("last", 1), ("attention", 1), ("attention", 4)]
)
def test_heads_by_loops(pooling, queries):
    network = classifier(pooling=pooling, queries=queries, layers=(2,))
    clean = tiny_inputs(LAYOUT, dtype=torch.float64).clean
    p = {name: tensor.detach() for name, tensor in network.heads[0].named_parameters()}
    with torch.no_grad():
        output = network(clean, layout=LAYOUT, return_layers=(2,))
    for logits, states in zip(output.logits, output.hidden_states[0], strict=True):
        tokens = [rms_norm(token, p["norm.weight"]) for block in states for token in block]
        if pooling == "attention":
            width, parts = 32 // queries, []
            for index, query in enumerate(p["pool.queries"]):
                weights = [math.exp(float(token @ query) / math.sqrt(32)) for token in tokens]
                values = [
                    (p["pool.value.weight"] @ token)[index * width : (index + 1) * width] for token in tokens
                ]
                parts.append(
                    sum((w * value for w, value in zip(weights, values, strict=True)), torch.zeros(width))
                    / sum(weights)
                )
            pooled = torch.cat(parts)
        else:
            chosen = tokens[-LAYOUT.block_tokens :] if pooling == "last" else tokens
            pooled = sum(chosen, torch.zeros(32)) / len(chosen)
        expected = p["linear.weight"] @ pooled + p["linear.bias"]
        assert relative_error(logits[0], expected) < 1e-12


def test_several_heads_of_several_poolings_in_one_pass():
    network = classifier(layers=(3, 1, 1), pooling=("mean", "last", "attention"), queries=2)
    clean = tiny_inputs(LAYOUT, dtype=torch.float64).clean
    with torch.no_grad():
        output = network(clean, layout=LAYOUT)
        assert output.hidden_states is None and output.logits.shape == (2, 3, 4)
        for index, (layer, pooling) in enumerate(zip((3, 1, 1), ("mean", "last", "attention"), strict=True)):
            single = classifier(layers=(layer,), pooling=pooling, queries=2)
            single.heads[0].load_state_dict(network.heads[index].state_dict())
            assert torch.equal(single(clean, layout=LAYOUT).logits[:, 0], output.logits[:, index])
        logits, states = network(clean, layout=LAYOUT, return_layers=(2, 0), return_dict=False)
    assert torch.equal(logits, output.logits) and len(given(states)) == 2


def test_layers_above_the_highest_head_are_not_there():
    network, clean = classifier(layers=(1, 2)), tiny_inputs(LAYOUT, dtype=torch.float64).clean
    assert len(network.blocks) == 2 and network.config["num_layers"] == 3
    whole = classifier(layers=(3, 1))
    whole.heads[1].load_state_dict(network.heads[0].state_dict())
    with torch.no_grad():
        seen = states_by_hooks(whole.transformer, lambda: whole.features(clean, layout=LAYOUT, layers=(0, 1)))
        logits = [each(clean, layout=LAYOUT).logits for each in (network, whole)]
    assert len(seen) == 2  # the embedding and one layer
    assert torch.equal(logits[0][:, 0], logits[1][:, 1])
    assert len(classifier(layers=(0,)).blocks) == 0
