"""The causal backbone with a head per token, against a recomputation of every prefix and a plain head."""

import copy
import math

import pytest
import torch
from accelerate import cpu_offload
from torch import Tensor

from acdit.model.layout import Layout
from acdit.model.token_head import CausalTokenDiffusion
from acdit.model.transformer import ACDiTTransformer
from tests.reference import gelu, rms_norm, rotate, silu
from tests.tiny import Inputs, given, randomise, relative_error, tiny_inputs

LAYOUTS = [Layout((3, 4), (1, 1)), Layout((2, 2, 3), (1, 1, 1))]
NULL = 5


def tiny_token_model(
    layout: Layout = LAYOUTS[0], dtype: torch.dtype = torch.float64, **config
) -> CausalTokenDiffusion:
    """A network whose parameters are all random, with a head of another width than the backbone."""
    size = {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "num_classes": NULL}
    head = {"head_layers": 2, "head_size": 24}
    model = CausalTokenDiffusion(3, layout.grid, **{**size, **head, **config})
    randomise(model)
    torch.nn.Module.to(model.eval(), dtype)  # diffusers' own `to` warns of casts
    return model


def drawn(layout: Layout = LAYOUTS[0], dtype: torch.dtype = torch.float64) -> Inputs:
    return tiny_inputs(layout, dtype=dtype)


def state_after(model: CausalTokenDiffusion, tokens: Tensor, labels: Tensor, layout: Layout) -> Tensor:
    """The last state (N, hidden) of the backbone for the start token and clean tokens (N, P, C)."""
    p, config = dict(model.named_parameters()), model.config
    heads, width = config["num_heads"], config["hidden_size"] // config["num_heads"]
    split = (width // 2,) * 2 if layout.axes == 2 else (width // 8 * 2, width // 8 * 3, width // 8 * 3)
    start = p["start_embedder.weight"] + p["y_embedder.embedding_table.weight"][labels]  # (N, hidden)
    x = torch.cat((start[:, None], tokens @ p["x_embedder.weight"].T), 1)  # (N, S, hidden)
    batch, length = x.shape[:2]
    places = layout.coordinates().flatten(0, 1)[:length]
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    for layer in range(config["num_layers"]):
        here = f"blocks.{layer}"
        h = rms_norm(x, p[f"{here}.norm1.weight"])
        qkv = h @ p[f"{here}.attn.qkv.weight"].T + p[f"{here}.attn.qkv.bias"]
        q, k, v = (part.reshape(batch, length, heads, width) for part in qkv.chunk(3, -1))
        q, k = (
            rotate(rms_norm(part, p[f"{here}.attn.{name}_norm.weight"]), places, layout.grid, split)
            for part, name in ((q, "q"), (k, "k"))
        )
        scores = torch.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(width)
        attended = torch.einsum("nhqk,nkhd->nqhd", scores.masked_fill(later, -torch.inf).softmax(-1), v)
        x = x + attended.flatten(2) @ p[f"{here}.attn.proj.weight"].T + p[f"{here}.attn.proj.bias"]
        h = rms_norm(x, p[f"{here}.norm2.weight"])
        h = gelu(h @ p[f"{here}.mlp.fc1.weight"].T + p[f"{here}.mlp.fc1.bias"])
        x = x + h @ p[f"{here}.mlp.fc2.weight"].T + p[f"{here}.mlp.fc2.bias"]
    return rms_norm(x[:, -1], p["norm_final.weight"])


def denoised(model: CausalTokenDiffusion, noised: Tensor, timestep: Tensor, state: Tensor) -> Tensor:
    """What the head predicts for noised tokens (N, C) at timesteps (N,) after states (N, hidden)."""
    p = {name.removeprefix("head."): value for name, value in model.named_parameters()}

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    frequencies = (-math.log(10000) * torch.arange(128, dtype=torch.float32) / 128).double().exp().float()
    angles = timestep[:, None] * frequencies.to(noised.dtype)
    sinusoid = torch.cat((angles.cos(), angles.sin()), -1)
    vector = linear("time_embedder.mlp.2", silu(linear("time_embedder.mlp.0", sinusoid)))
    vector = silu(vector + linear("state_embedder", state))
    x = linear("token_embedder", noised)
    for layer in range(model.config["head_layers"]):
        here = f"layers.{layer}"
        shift, scale, gate = linear(f"{here}.adaLN_modulation.1", vector).chunk(3, -1)
        h = rms_norm(x, p[f"{here}.norm.weight"]) * (1 + scale) + shift
        x = x + gate * linear(f"{here}.mlp.fc2", gelu(linear(f"{here}.mlp.fc1", h)))
    shift, scale = linear("final_layer.adaLN_modulation.1", vector).chunk(2, -1)
    return linear("final_layer.linear", rms_norm(x, p["final_layer.norm_final.weight"]) * (1 + scale) + shift)


def brute_force(model: CausalTokenDiffusion, inputs: Inputs, layout: Layout) -> Tensor:
    """Predictions (N, T, C), each after a recomputation of the whole prefix of its token."""
    clean, noised = inputs.clean[:, :, 0], inputs.noised[:, :, 0]
    outputs = []
    for token in range(layout.num_tokens):
        state = state_after(model, clean[:, :token], inputs.labels, layout)
        outputs.append(denoised(model, noised[:, token], inputs.timestep[:, token], state))
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("backend", ["split", "dense"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@torch.no_grad()
def test_states_and_head_are_those_of_a_recomputation_of_every_prefix(layout, backend):
    model, inputs = tiny_token_model(layout), drawn(layout)
    model.set_attention_backend(backend)
    clean = inputs.clean[:, :-1]
    start = model._start(2, inputs.labels, clean.device)
    states = model.states(clean, start, layout, None)
    prefixes = [
        state_after(model, clean[:, :token, 0], inputs.labels, layout) for token in range(layout.num_tokens)
    ]
    assert relative_error(states, torch.stack(prefixes, 1)) < 1e-9
    sample = model(inputs.noised, inputs.timestep, layout=layout, clean=clean, labels=inputs.labels).sample
    assert relative_error(sample[:, :, 0], brute_force(model, inputs, layout)) < 1e-9


@pytest.mark.parametrize("prefix", [0, 1, 4])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@torch.no_grad()
def test_cached_is_teacher_forced(layout, prefix):
    """Steps of one token share its state; the token before arrives with the first of them."""
    model, inputs = tiny_token_model(layout), drawn(layout)
    forced = model(
        inputs.noised, inputs.timestep, layout=layout, clean=inputs.clean, labels=inputs.labels
    ).sample
    cache, samples = model.new_cache(layout, 2), []
    clean = inputs.clean[:, :prefix] if prefix else None
    for token in range(prefix, layout.num_tokens):
        step = {"layout": layout, "blocks": (token,), "labels": inputs.labels, "cache": cache}
        first = model(inputs.noised[:, [-1]] + 1, inputs.timestep[:, [0]] / 2, clean=clean, **step).sample
        samples.append(model(inputs.noised[:, [token]], inputs.timestep[:, [token]], **step).sample)
        assert relative_error(first, samples[-1]) > 1e-3
        assert cache.num_blocks == token
        clean = inputs.clean[:, token : token + 1]
    assert relative_error(torch.cat(samples, 1), forced[:, prefix:]) < 1e-9


@torch.no_grad()
def test_the_backbone_runs_once_per_token_whatever_the_number_of_steps():
    layout, calls = LAYOUTS[0], []
    model, inputs = tiny_token_model(layout), drawn(layout)
    model.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    cache = model.new_cache(layout, 2)
    for token in range(3):
        for step in range(4):
            clean = inputs.clean[:, token - 1 : token] if token and not step else None
            model(
                inputs.noised[:, [token]],
                inputs.timestep[:, [token]],
                layout=layout,
                blocks=(token,),
                clean=clean,
                labels=inputs.labels,
                cache=cache,
            )
    assert len(calls) == 3


@torch.no_grad()
def test_draws_share_the_states_and_chosen_tokens_are_those_of_all():
    layout = LAYOUTS[0]
    model, inputs = tiny_token_model(layout), drawn(layout)
    forced = model(
        inputs.noised, inputs.timestep, layout=layout, clean=inputs.clean, labels=inputs.labels
    ).sample
    blocks = (2, 2, 5, 7, 7)
    noised = inputs.noised[:, list(blocks)].clone()
    noised[:, 1] = noised[:, 1] + 1  # another draw
    labels = inputs.labels[:, None].expand(-1, len(blocks))
    labels = torch.cat((labels[:, :1], torch.full_like(labels[:, 1:], NULL)), 1)  # the first view's counts
    sample = model(
        noised,
        inputs.timestep[:, list(blocks)],
        layout=layout,
        blocks=blocks,
        clean=inputs.clean,
        labels=labels,
    ).sample
    assert relative_error(sample[:, [0, 2, 3, 4]], forced[:, [2, 5, 7, 7]]) < 1e-9
    assert relative_error(sample[:, 1], forced[:, 2]) > 1e-3


@torch.no_grad()
def test_offloaded_and_cast_as_diffusers_does_it():
    layout = LAYOUTS[0]
    model, inputs = tiny_token_model(layout, torch.float32), drawn(layout, torch.float32)
    expected = steps(model, layout, inputs)
    offloaded = copy.deepcopy(model)
    cpu_offload(offloaded, execution_device=torch.device("cpu"))
    assert {weight.device.type for weight in offloaded.parameters()} == {"meta"}
    assert torch.equal(steps(offloaded, layout, inputs), expected)
    model.enable_layerwise_casting(torch.bfloat16, torch.float32)
    assert torch.bfloat16 in {weight.dtype for weight in model.parameters()}
    assert 0 < relative_error(steps(model, layout, inputs), expected) < 0.1


def steps(model: CausalTokenDiffusion, layout: Layout, inputs: Inputs) -> Tensor:
    """Predictions (N, 4, 1, C) for the first tokens, through a cache."""
    cache = model.new_cache(layout, 2, device=torch.device("cpu"))
    samples = [
        model(
            inputs.noised[:, [token]],
            inputs.timestep[:, [token]],
            layout=layout,
            blocks=(token,),
            clean=inputs.clean[:, token - 1 : token] if token else None,
            labels=inputs.labels,
            cache=cache,
        ).sample
        for token in range(4)
    ]
    return torch.cat(samples, 1)


@torch.no_grad()
def test_no_token_sees_a_later_one_or_itself_and_all_see_the_class():
    layout = LAYOUTS[0]
    model, inputs = tiny_token_model(layout), drawn(layout)
    forced = model(
        inputs.noised, inputs.timestep, layout=layout, clean=inputs.clean, labels=inputs.labels
    ).sample
    changed = inputs.clean.clone()
    changed[:, 4] += 1
    other = model(inputs.noised, inputs.timestep, layout=layout, clean=changed, labels=inputs.labels).sample
    assert torch.equal(other[:, :5], forced[:, :5])
    assert ((other - forced)[:, 5:].flatten(2).norm(dim=2) > 1e-3).all()
    null = model(inputs.noised, inputs.timestep, layout=layout, clean=inputs.clean).sample
    assert ((null - forced).flatten(2).norm(dim=2) > 1e-3).all()
    assert model.context_sees_labels
    assert not tiny_token_model(num_classes=None).context_sees_labels


def test_a_fresh_network_predicts_zero_and_learns_in_all_its_weights():
    layout = LAYOUTS[0]
    model = CausalTokenDiffusion(3, layout.grid, 2, 32, 2, num_classes=NULL, head_layers=2).double()
    inputs = drawn(layout)
    call = {"layout": layout, "clean": inputs.clean, "labels": inputs.labels}
    assert not model(inputs.noised, inputs.timestep, **call).sample.any()
    randomise(model)
    gradients = {}
    for checkpointing in (False, True):
        if checkpointing:
            model.enable_gradient_checkpointing()
        model.zero_grad()
        model(inputs.noised, inputs.timestep, **call).sample.square().sum().backward()
        gradients[checkpointing] = {
            name: given(parameter.grad).clone() for name, parameter in model.named_parameters()
        }
    for name, gradient in gradients[False].items():
        assert gradient.abs().max() > 0, name
        assert torch.allclose(gradient, gradients[True][name], rtol=1e-12, atol=1e-12), name


def test_the_first_token_alone_has_gradients_of_zero_for_what_it_does_not_read():
    """Not none: an optimiser would skip a step, and ranks would wait for its gradient."""
    layout = LAYOUTS[0]
    model = CausalTokenDiffusion(3, layout.grid, 2, 32, 2, num_classes=NULL, head_layers=2).double().train()
    inputs = drawn(layout)
    first = {"layout": layout, "blocks": (0,), "labels": inputs.labels}
    model(inputs.noised[:, :1], inputs.timestep[:, :1], **first).sample.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    assert not given(model.x_embedder.weight.grad).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": Layout((3, 4), (1, 2))}, "the block must be 1x1, not 1x2"),
        ({"blocks": (0, 5)}, "needs 5 clean blocks before it, but has 0"),
        ({"timestep": torch.zeros(2, 3)}, "one value per view"),
        ({"labels": torch.zeros(2, dtype=torch.long), "without": True}, "the network has no classes"),
        ({"noised": None}, "give noised tokens"),
    ],
)
def test_arguments_that_do_not_fit(change, message):
    model = tiny_token_model(num_classes=None if change.pop("without", False) else NULL)
    call = {"noised": torch.zeros(2, 2, 1, 3).double(), "timestep": torch.zeros(2, 2), "blocks": (0, 0)}
    call = {**call, "layout": LAYOUTS[0], **change}
    with pytest.raises(ValueError, match=message):
        model(call.pop("noised"), call.pop("timestep"), **call)


def test_caches_that_do_not_fit():
    layout, inputs = LAYOUTS[0], drawn()
    model = tiny_token_model()
    with pytest.raises(ValueError, match="leave out window"):
        model.new_cache(layout, 2, window=3)
    with pytest.raises(ValueError, match="the block must be 1x1"):
        model.new_cache(Layout((3, 4), (3, 4)), 2)
    other = ACDiTTransformer(3, layout.grid, 2, 32, 2).new_cache(layout, 2)
    call = {"layout": layout, "clean": inputs.clean[:, :2]}
    with pytest.raises(ValueError, match="another kind of network"):
        model(inputs.noised[:, [2]], inputs.timestep[:, [2]], blocks=(2,), cache=other, **call)
    cache = model.new_cache(layout, 2)
    assert model(None, cache=cache, **call).sample is None
    with pytest.raises(ValueError, match="no state for token 1, only for tokens from 2 on"):
        model(inputs.noised[:, [1]], inputs.timestep[:, [1]], layout=layout, blocks=(1,), cache=cache)
    with pytest.raises(ValueError, match="head_layers and head_size must be at least 1"):
        tiny_token_model(head_layers=0)
