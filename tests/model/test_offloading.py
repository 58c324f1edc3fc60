"""Networks as diffusers offloads and casts them: weights are there in the call of their module alone."""

from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from diffusers.hooks.layerwise_casting import apply_layerwise_casting
from torch import Tensor, nn

from acdit.diffusion.generate import Guidance, generate
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.diffusion.schedulers import default_sampler
from acdit.evaluation.features.clip_network import ClipNetwork
from acdit.evaluation.features.digit_classifier import DigitClassifier
from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from tests.tiny import relative_error, tiny_inputs, tiny_model

LAYOUT = Layout((6, 6), (2, 6))
TEXT = Layout((12,), (4,))
VIDEO = Layout((4, 6, 6), (2, 6, 6))
TEXTS: dict[str, Any] = {"in_channels": None, "vocab_size": 11, "axis_lengths": (12,)}
KINDS: dict[str, tuple[Layout, dict[str, Any]]] = {
    "classes": (LAYOUT, {}),
    "no classes": (LAYOUT, {"num_classes": None}),
    "classes without time": (LAYOUT, {"time_conditioning": False}),
    "unconditioned": (LAYOUT, {"num_classes": None, "time_conditioning": False}),
    "video": (VIDEO, {"axis_lengths": (4, 6, 6)}),
    "text": (TEXT, TEXTS | {"num_classes": None, "time_conditioning": False}),
    "text with time": (TEXT, TEXTS | {"num_classes": None}),
    "text with classes": (TEXT, TEXTS),
}
CPU = torch.device("cpu")


def drawn(network: ACDiTTransformer) -> Tensor:
    """Samples (1, T, B, ..), with guidance, cache, window and sinks where the network allows them."""
    if network.config["vocab_size"] is not None:
        sources = [torch.Generator().manual_seed(0)]
        masked, scheduler = torch.full((1, 3, 4), 10), FirstHittingScheduler(mask_token=10)
        blocks = generate(network, TEXT, masked, scheduler=scheduler, steps=4, generators=sources)
    else:
        noise, scheduler = tiny_inputs(LAYOUT, batch=1).noised, default_sampler("flow")
        more = {"labels": torch.tensor([2]), "guidance": Guidance(2.0), "window": 1, "sinks": 1}
        blocks = generate(network, LAYOUT, noise, scheduler=scheduler, steps=2, **more)
    return torch.stack([block.sample for block in blocks], 1)


def images() -> ACDiTTransformer:
    return tiny_model()


def text() -> ACDiTTransformer:
    config = {"axis_lengths": (12,), "num_classes": None, "time_conditioning": False}
    return tiny_model(in_channels=None, vocab_size=11, **config)


@pytest.mark.parametrize("made", [images, text])
def test_module_by_module(made):
    expected, network = drawn(made()), made()
    cpu_offload(network, CPU)
    assert all(parameter.is_meta for parameter in network.parameters())
    assert torch.equal(drawn(network), expected)


@pytest.mark.parametrize("made", [images, text])
def test_in_groups(made):
    expected, network = drawn(made()), made()
    network.enable_group_offload(onload_device=CPU, offload_device=CPU, offload_type="leaf_level")
    assert torch.equal(drawn(network), expected)


def test_weights_of_fewer_bits():
    """Each layer computes in float32 with weights that are kept in float8, as if they had been rounded."""
    network, rounded = images(), images()
    apply_layerwise_casting(network, torch.float8_e4m3fn, torch.float32, skip_modules_pattern=("norm",))
    kept = dict(network.named_parameters())
    assert kept["blocks.0.attn.qkv.weight"].dtype == torch.float8_e4m3fn
    plain = {name: parameter.detach().float() for name, parameter in kept.items()}
    rounded.load_state_dict(plain)
    assert torch.equal(drawn(network), drawn(rounded))
    assert relative_error(drawn(network), drawn(images())) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_norms_embeddings_and_conditioning_are_not_rounded(kind):
    """Only the four products of every layer are rounded, each by at most half a step of three bits.

    A rounded weight is off by at most 2^-4 of itself, and so is each of the 4 L products that follow each
    other: the relative error of the output is of the order of (1 + 2^-4)^(4 L) - 1 at most.
    """
    layout, config = KINDS[kind]
    exact, network = tiny_model(**config), tiny_model(**config)
    network.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    kept = {name for name, each in network.named_parameters() if each.dtype == torch.float8_e4m3fn}
    products = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert kept == {
        f"blocks.{layer}.{product}.{part}"
        for layer in range(2)
        for product in products
        for part in ("weight", "bias")
    }
    error = relative_error(answers(network, layout), answers(exact, layout))
    assert 1e-4 < error < (1 + 2**-4) ** (2 * len(products)) - 1


def answers(network: ACDiTTransformer, layout: Layout) -> Tensor:
    """Everything that a network computes: views and states in one call, then block by block with a cache."""
    given, config = tiny_inputs(layout), network.config
    noised, clean = given.noised, given.clean
    if config["vocab_size"] is not None:
        noised, clean = ((part[..., 0] * 100).long() % 11 for part in (noised, clean))
    timestep = given.timestep if config["time_conditioning"] else None
    more: dict[str, Any] = {"layout": layout, "labels": given.labels if config["num_classes"] else None}
    with torch.no_grad():
        whole = network(noised, timestep, clean=clean, return_hidden_states=True, **more)
        outputs = [whole.sample.flatten(), whole.hidden_states.flatten()]
        cache = network.new_cache(layout, len(noised), device=CPU)
        for index in range(layout.num_blocks):
            view = slice(index, index + 1)
            before = clean[:, index - 1 : index] if index else None
            time = None if timestep is None else timestep[:, view]
            part = network(noised[:, view], time, blocks=(index,), clean=before, cache=cache, **more)
            outputs.append(part.sample.flatten())
    return torch.cat(outputs)


@pytest.mark.parametrize("groups", [{"offload_type": "leaf_level"}, {"offload_type": "block_level"}])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_on_disk(kind, groups, tmp_path):
    """Diffusers gives the memory of weights on disk to others, so nothing may be read outside a module."""
    layout, config = KINDS[kind]
    expected, network = answers(tiny_model(**config), layout), tiny_model(**config)
    if groups["offload_type"] == "block_level":
        groups = groups | {"num_blocks_per_group": 1}
    network.enable_group_offload(CPU, CPU, offload_to_disk_path=str(tmp_path), **groups)
    assert torch.equal(answers(network, layout), expected)
    assert torch.equal(answers(network, layout), expected)


def overwrite_outside_calls(module: nn.Module) -> None:
    """Let the own parameters and buffers of every module be NaN, except during a call of that module."""

    def restore(part: nn.Module, _: Any) -> None:
        for tensor, values in kept[part]:
            tensor.data = values.clone()

    def overwrite(part: nn.Module, *_: Any) -> None:
        for tensor, _values in kept[part]:
            if tensor.is_floating_point():
                tensor.data.fill_(torch.nan)  # in place: every view of the memory sees it

    kept: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}
    for part in module.modules():
        own = [*part.parameters(recurse=False), *part.buffers(recurse=False)]
        kept[part] = [(tensor, tensor.detach().clone()) for tensor in own]
        part.register_forward_pre_hook(restore)
        part.register_forward_hook(overwrite)
        overwrite(part)


@pytest.mark.parametrize("kind", KINDS)
def test_no_weight_of_a_network_is_read_outside_its_module(kind):
    layout, config = KINDS[kind]
    expected, network = answers(tiny_model(**config), layout), tiny_model(**config)
    overwrite_outside_calls(network)
    assert torch.equal(answers(network, layout), expected)


def test_no_weight_of_a_classifier_is_read_outside_its_module():
    """A network that extracts features gives the same features, classes and velocities."""
    torch.manual_seed(0)
    images, clips = torch.randn(3, 1, 8, 8), torch.randn(2, 1, 4, 32, 32)
    digits, movements = DigitClassifier(8, 1, 10).eval(), ClipNetwork(4, 32).eval()

    def outputs() -> list[Tensor]:
        return [digits(images), digits.features(images), *movements(clips), movements.features(clips)]

    with torch.no_grad():
        expected = outputs()
        for network in (digits, movements):
            overwrite_outside_calls(network)
        assert all(torch.equal(*pair) for pair in zip(outputs(), expected, strict=True))
