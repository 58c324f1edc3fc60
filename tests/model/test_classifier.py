"""The classifier's backbone against the generator's own clean stream, loops and brute force."""

import math
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from acdit.model.classifier import ACDiTForImageClassification
from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from acdit.utils.errors import UserError
from tests.reference import build, reference, rms_norm
from tests.tiny import given, randomise, relative_error, tiny_inputs, tiny_model

LAYOUT = Layout((4, 6), (2, 3))
WHOLE = LAYOUT.with_block(LAYOUT.grid)
ALL = (0, 1, 2, 3)


def generator(**config: Any) -> ACDiTTransformer:
    """A generator of three layers in float64."""
    return build(LAYOUT, num_layers=3, **config)


def classifier(network: ACDiTTransformer | None = None, **settings: Any) -> ACDiTForImageClassification:
    """A classifier of four classes with the weights of a generator and random heads, in float64."""
    built = ACDiTForImageClassification.from_generator(network or generator(), 4, **settings).double().eval()
    randomise(built.heads, seed=5)
    return built


def states_by_hooks(network: Any, run: Any) -> list[Tensor]:
    """What the embedding and the layers of a network return in a call, (N, T, B, hidden)."""
    seen: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda module, given, output: seen.append(output))
        for layer in (network.x_embedder, *network.blocks)
    ]
    run()
    for hook in hooks:
        hook.remove()
    return seen


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


def test_cached_features_equal_uncached_ones():
    network, clean = classifier(), tiny_inputs(LAYOUT, dtype=torch.float64).clean
    cache = network.transformer.new_cache(
        LAYOUT, len(clean)
    )  # of all blocks but the last, which none follows
    with torch.no_grad():
        whole = network.features(clean, layout=LAYOUT, layers=ALL)
        parts = [
            network.features(part, layout=LAYOUT, layers=ALL, cache=cache)
            for part in clean[:, :3].split([1, 2], 1)
        ]
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


def test_backends_are_those_of_the_backbone():
    network = classifier()
    with pytest.raises(ValueError, match="attention backend must be one of dense, split, flex, not 'flash'"):
        network.set_attention_backend("flash")
    network.set_attention_backend("flex")
    with pytest.raises(ValueError, match="no backward pass"):
        network.train()(tiny_inputs(LAYOUT, dtype=torch.float64).clean, layout=LAYOUT)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layers": (4,)}, r"layers must lie in 0\.\.3 .*, not 4"),
        ({"layers": (-1, 2)}, r"layers must lie in 0\.\.3 .*, not -1"),
        ({"layers": ()}, "at least one"),
        ({"pooling": "max"}, "pooling must be one of mean, last, attention, not 'max'"),
        ({"pooling": ("mean", "last")}, "one value, or one for each of 1 heads"),
        ({"pooling": "attention", "queries": 5}, "must divide the hidden size 32, not 5"),
        ({"pooling": "attention", "queries": 0}, "must divide the hidden size 32, not 0"),
        ({"attention": "causal"}, "attention must be one of block-causal, bidirectional, not 'causal'"),
        ({"timestep": 1000}, r"timestep must lie from 0 to below 1000, not 1000"),
        ({"timestep": -1.0}, r"timestep must lie from 0 to below 1000, not -1"),
        ({"timestep": math.nan}, r"timestep must lie from 0 to below 1000, not nan"),
        ({"timestep": 10, "attention": "bidirectional"}, "noised input is one block"),
    ],
    ids=str,
)
def test_settings_that_do_not_exist(settings, words):
    with pytest.raises(ValueError, match=words):
        ACDiTForImageClassification.from_generator(generator(), 4, **settings)


@pytest.mark.parametrize("classes", [0, -1])
def test_a_classifier_has_classes(classes):
    with pytest.raises(ValueError, match=f"num_labels must be at least 1, not {classes}"):
        ACDiTForImageClassification.from_generator(generator(), classes)


@pytest.mark.parametrize(
    ("config", "settings", "words"),
    [
        ({"in_channels": None, "vocab_size": 9, "axis_lengths": (8,)}, {}, "of images, not one of text"),
        ({"axis_lengths": (2, 4, 4)}, {}, "of images, not one of video"),
        ({"time_conditioning": False}, {"timestep": 5}, "needs a generator with time conditioning"),
    ],
)
def test_generators_of_other_kinds(config, settings, words):
    with pytest.raises(UserError, match=words):
        ACDiTForImageClassification.from_generator(tiny_model(**config), 4, **settings)


def test_calls_that_do_not_fit():
    clean = tiny_inputs(LAYOUT, dtype=torch.float64).clean
    with pytest.raises(ValueError, match="noised input is one block, but grid 4x6, block 2x3 has 4"):
        classifier(timestep=5.0)(clean, layout=LAYOUT)
    with pytest.raises(ValueError, match=r"layers must lie in 0\.\.2 .*, not \(3,\)"):
        classifier(layers=(2,)).features(clean, layout=LAYOUT, layers=(3,))
    with pytest.raises(ValueError, match="bidirectional is for clean blocks alone"):
        network = classifier(attention="bidirectional")
        cache = network.transformer.new_cache(LAYOUT, 2)
        network.features(clean[:, :1], layout=LAYOUT, layers=(1,), cache=cache)
    for shape in ((2, 4, 2), (3, 3, 2), (2, 3, 1)):
        with pytest.raises(ValueError, match=r"branch_scale must be \(N, layers, 2\) = \(2, 3, 2\), not"):
            classifier()(clean, layout=LAYOUT, branch_scale=torch.ones(shape))
    with pytest.raises(ValueError, match=r"must have 4 blocks, not 3"):
        classifier()(clean[:, :3], layout=LAYOUT)


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
