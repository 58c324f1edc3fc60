"""The classifier's backbone against the generator's own clean stream and brute force."""

from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from acdit.model.classifier import ACDiTForImageClassification
from acdit.model.transformer import ACDiTTransformer
from tests.model.classifiers import ALL, LAYOUT, WHOLE, classifier, generator, states_by_hooks
from tests.reference import reference
from tests.tiny import given, relative_error, tiny_inputs


@pytest.mark.parametrize("classes", [5, None])
def test_features_do_not_depend_on_timestep_label_or_noise(classes):
    network, inputs = generator(num_classes=classes), tiny_inputs(LAYOUT, dtype=torch.float64)
    with torch.no_grad():
        features = classifier(network).features(inputs.clean, layout=LAYOUT, layers=ALL)
        of_generator = [
            network(
                noised,
                timestep,
                layout=LAYOUT,
                clean=inputs.clean,
                labels=labels if classes else None,
                return_hidden_states=ALL,
            ).hidden_states
            for noised, timestep, labels in (
                (inputs.noised, inputs.timestep, inputs.labels),
                (-inputs.noised, 999 - inputs.timestep, inputs.labels + 1),
            )
        ]
        last = network(
            inputs.noised,
            inputs.timestep,
            layout=LAYOUT,
            clean=inputs.clean,
            labels=inputs.labels if classes else None,
            return_hidden_states=True,
        ).hidden_states
        _, expected = reference(
            network, inputs.noised, inputs.timestep, inputs.clean, inputs.labels if classes else None, LAYOUT
        )
    for own, one, other in zip(features, *of_generator, strict=True):
        assert torch.equal(one[:, : LAYOUT.num_blocks], other[:, : LAYOUT.num_blocks])
        assert relative_error(one[:, LAYOUT.num_blocks :], other[:, LAYOUT.num_blocks :]) > 1e-3
        assert relative_error(own, one[:, : LAYOUT.num_blocks]) < 1e-12
    assert torch.equal(of_generator[0][-1], last)
    assert relative_error(features[-1], expected[:, : LAYOUT.num_blocks]) < 1e-9


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 2), (2, 1), (3,)], ids=str)
def test_cached_features_equal_uncached_ones(sizes):
    """Of all blocks that a cache holds: the last one, which no block follows, is refused in words."""
    network, clean = classifier(), tiny_inputs(LAYOUT, dtype=torch.float64).clean
    cache = network.transformer.new_cache(LAYOUT, len(clean))
    with torch.no_grad():
        whole = network.features(clean, layout=LAYOUT, layers=ALL)
        parts = [
            network.features(part, layout=LAYOUT, layers=ALL, cache=cache)
            for part in clean[:, :3].split(sizes, 1)
        ]
        with pytest.raises(ValueError, match=r"room for 3 clean blocks \(all but the last\)"):
            network.features(clean[:, 3:], layout=LAYOUT, layers=ALL, cache=cache)
    for uncached, *cached in zip(whole, *parts, strict=True):
        assert relative_error(torch.cat(cached, 1), uncached[:, :3]) < 1e-9


@pytest.mark.parametrize("attention", ["block-causal", "bidirectional"])
@pytest.mark.parametrize("backend", ["dense", "split"])
def test_who_sees_whom(attention, backend):
    """One block of all tokens is ordinary attention, so bidirectional blocks must give the same."""
    network, whole = classifier(attention=attention), classifier()
    network.set_attention_backend(backend)
    image = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        blocks = network.features(LAYOUT.to_blocks(image), layout=LAYOUT, layers=ALL)
        one = whole.features(WHOLE.to_blocks(image), layout=WHOLE, layers=ALL)
    for layer, (own, expected) in enumerate(zip(blocks, one, strict=True)):
        error = relative_error(LAYOUT.from_blocks(own), WHOLE.from_blocks(expected))
        assert error < 1e-12 if layer == 0 or attention == "bidirectional" else error > 1e-3
    with torch.no_grad():
        same = network.features(WHOLE.to_blocks(image), layout=WHOLE, layers=ALL)
    assert max(relative_error(a, b) for a, b in zip(same, one, strict=True)) < 1e-12


@pytest.mark.parametrize("timestep", [None, 200.0])
def test_hidden_states_are_what_the_layers_return(timestep):
    layout = LAYOUT if timestep is None else WHOLE
    network, data = classifier(timestep=timestep), tiny_inputs(layout, dtype=torch.float64).clean
    with torch.no_grad():
        seen = states_by_hooks(network.transformer, lambda: network.features(data, layout=layout, layers=ALL))
        for layers in (ALL, (2,), (3, 0, 3), (1, 2)):
            states = network.features(data, layout=layout, layers=layers)
            for layer, state in zip(layers, states, strict=True):
                assert torch.equal(state, seen[layer].unflatten(0, data.shape[:2]))


@pytest.mark.parametrize("stream", ["clean", "noised", "both"])
def test_branches_are_scaled_by_layer_and_sample(stream):
    """The same by hooks on attention and MLP, whose outputs are multiplied row by row."""
    layout = WHOLE if stream == "noised" else LAYOUT
    network, inputs = generator(), tiny_inputs(layout, batch=3, dtype=torch.float64)
    arguments: dict[str, Any] = {"layout": layout, "return_hidden_states": ALL}
    noised = timestep = None
    if stream != "noised":
        arguments["clean"] = inputs.clean
    if stream != "clean":
        noised, timestep = inputs.noised, inputs.timestep
    counts = [layout.num_blocks] * (2 if stream == "both" else 1)
    scale = torch.rand(3, 3, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scale[0, 1], scale[1, :, 0], scale[2] = 0, 0, 1

    def states(**more: Any) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return network(noised, timestep, **arguments, **more).hidden_states

    plain, scaled = states(), states(branch_scale=scale)
    for one, other in zip(plain, states(branch_scale=torch.ones_like(scale)), strict=True):
        assert torch.equal(one, other)
    for state in states(branch_scale=torch.zeros_like(scale)):
        assert torch.equal(state, plain[0])
    assert all(relative_error(a[2], b[2]) < 1e-12 for a, b in zip(scaled, plain, strict=True))
    for layer, block in enumerate(network.blocks):
        for branch, name in enumerate(("attn", "mlp")):
            rows = [factor for count in counts for factor in scale[:, layer, branch] for _ in range(count)]
            factors = torch.stack(rows)[:, None, None]
            block.get_submodule(name).register_forward_hook(
                lambda module, given, output, factors=factors: output * factors
            )
    for own, expected, other in zip(scaled[1:], states()[1:], plain[1:], strict=True):
        assert relative_error(own, expected) < 1e-12
        assert relative_error(own, other) > 1e-3


@pytest.mark.parametrize("classes", [5, None])
def test_the_protocol_of_dit_reads_the_generator_with_the_null_label(classes):
    network, inputs = generator(num_classes=classes), tiny_inputs(WHOLE, dtype=torch.float64)
    probe = classifier(network, layers=ALL, timestep=300.0)
    assert probe.config["null_label"] == (classes is not None)
    times = torch.full((2, 1), 300.0, dtype=torch.float64)
    null = None if classes is None else torch.full((2,), classes)
    with torch.no_grad():
        states = probe.features(inputs.noised, layout=WHOLE, layers=ALL)
        expected = network(
            inputs.noised, times, layout=WHOLE, labels=null, return_hidden_states=ALL
        ).hidden_states
    assert all(relative_error(a, b) < 1e-12 for a, b in zip(states, expected, strict=True))
    if classes is not None:
        stored = probe.state_dict()["transformer.y_embedder.embedding_table.weight"]
        assert torch.equal(stored, network.state_dict()["y_embedder.embedding_table.weight"][-1:])


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize(
    ("way", "settings"),
    [
        ("gradient checkpointing", {}),
        ("gradient checkpointing", {"timestep": 300.0}),
        ("traced whole", {"attention": "bidirectional"}),
    ],
)
def test_gradients_are_the_same_in_every_way(way, settings):
    layout = WHOLE if "timestep" in settings else LAYOUT
    clean = tiny_inputs(layout, dtype=torch.float64).clean
    scale = torch.rand(2, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def gradients(network: ACDiTForImageClassification) -> list[Tensor]:
        logits = network(clean, layout=layout, branch_scale=scale).logits
        loss = logits.logsumexp(-1).sum() - logits[..., 0].sum()
        return list(torch.autograd.grad(loss, list(network.parameters())))

    plain, other = (classifier(**settings, layers=(2,)).train() for _ in range(2))
    if way == "gradient checkpointing":
        other.enable_gradient_checkpointing()
    else:
        other.compile_repeated_blocks(fullgraph=True, backend="aot_eager")
    for one, two in zip(gradients(plain), gradients(other), strict=True):
        assert relative_error(two, one) < 1e-9


def test_a_call_in_bf16_stays_in_bf16():
    network = classifier()
    torch.nn.Module.to(network, torch.bfloat16)
    clean = tiny_inputs(LAYOUT).clean.bfloat16()
    with torch.no_grad():
        output = network(clean, layout=LAYOUT, branch_scale=torch.ones(2, 3, 2), return_layers=ALL)
        plain = network(clean, layout=LAYOUT)
    assert {state.dtype for state in given(output.hidden_states)} == {torch.bfloat16}
    assert torch.equal(output.logits, plain.logits)


@pytest.mark.parametrize("of_generator", [False, True])
def test_adapters_of_the_network_and_of_its_generator(of_generator, tmp_path):
    source = generator() if of_generator else classifier()
    clean = tiny_inputs(LAYOUT, dtype=torch.float64).clean
    source.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["qkv"]))
    randomise_adapter(source)
    source.save_lora_adapter(tmp_path)
    weights = load_file(tmp_path / "pytorch_lora_weights.safetensors")
    if of_generator:  # as pipelines save them
        save_file(
            {f"transformer.{name}": tensor for name, tensor in weights.items()}, tmp_path / "all.safetensors"
        )
    loaded, plain = classifier(), classifier()
    loaded.load_lora_adapter(
        tmp_path, weight_name="all.safetensors" if of_generator else "pytorch_lora_weights.safetensors"
    )
    with torch.no_grad():
        states = loaded.features(clean, layout=LAYOUT, layers=(3,))[0]
        without = plain.features(clean, layout=LAYOUT, layers=(3,))[0]
        expected = states_of(source, clean)
    assert relative_error(states, expected) < 1e-9 and relative_error(states, without) > 1e-3


def randomise_adapter(network: Any) -> None:
    """Give the matrices of an adapter, one of which is zero at first, random values."""
    source = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=torch.float64) / 3)


def states_of(network: Any, clean: Tensor) -> Tensor:
    """States of the last layer of the clean stream of a generator or of a classifier."""
    if isinstance(network, ACDiTTransformer):
        return network(None, layout=LAYOUT, clean=clean, return_hidden_states=(3,)).hidden_states[0]
    return network.features(clean, layout=LAYOUT, layers=(3,))[0]
