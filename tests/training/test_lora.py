"""Adapters: they start as nothing, learn alone, and fold into a plain network."""

import copy

import pytest
import torch

from acdit.diffusion.continuous import DiffusionObjective
from acdit.diffusion.objective import SampleKey
from acdit.model.layout import Layout
from acdit.training.config import LoraConfig
from acdit.training.lora import add_lora, merged, trainable
from acdit.utils.errors import UserError
from tests.tiny import randomise, relative_error, tiny_inputs, tiny_model

LAYOUT = Layout((4, 4), (2, 2))
TARGETS = LoraConfig().targets
ALL = [*TARGETS, "x_embedder", "t_embedder.mlp.0", "adaLN_modulation.1", "final_layer.linear"]


def answer(network, blocks=None):
    given = tiny_inputs(LAYOUT, dtype=network.dtype)
    views = slice(None) if blocks is None else list(blocks)
    with torch.no_grad():
        return network(
            given.noised[:, views],
            given.timestep[:, views],
            layout=LAYOUT,
            blocks=blocks,
            clean=given.clean,
            labels=given.labels,
        ).sample


def adapted(targets=TARGETS, rank=3, alpha=None):
    """A network with random weights and random adapters, in float64, and the network that it was made of."""
    base = tiny_model(dtype=torch.float64)
    network = copy.deepcopy(base)
    add_lora(network, rank, alpha, targets)
    for name, parameter in network.named_parameters():
        if "lora" in name:
            source = torch.Generator().manual_seed(len(name))
            with torch.no_grad():
                parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=torch.float64) / 4)
    return network, base


@pytest.mark.parametrize("targets", [TARGETS, ALL, ["blocks.1.attn.proj"]])
def test_adapters_start_as_nothing(targets):
    network = tiny_model(dtype=torch.float64)
    before = answer(network)
    add_lora(network, 2, 7.0, targets)
    assert relative_error(answer(network), before) < 1e-12


@pytest.mark.parametrize("targets", [*([target] for target in TARGETS), TARGETS, ALL])
def test_merged_adapters_answer_alike(targets):
    network, base = adapted(targets)
    plain = merged(network)
    for blocks in (None, (1, 3), (2,)):
        found, expected = answer(plain, blocks), answer(network, blocks)
        assert relative_error(found, expected) < 1e-9
        assert relative_error(found, answer(base, blocks)) > 1e-3


@pytest.mark.parametrize(("alpha", "scale"), [(None, 1.0), (6.0, 2.0)])
def test_merged_weights_are_the_sum(alpha, scale):
    network, base = adapted(["qkv"], alpha=alpha)
    plain, tensors = merged(network).state_dict(), network.state_dict()
    changed = [name for name, tensor in base.state_dict().items() if not torch.equal(plain[name], tensor)]
    assert changed == [f"blocks.{layer}.attn.qkv.weight" for layer in range(2)]
    for layer in range(2):
        name = f"blocks.{layer}.attn.qkv"
        down, up = (tensors[f"{name}.lora_{part}.default.weight"] for part in "AB")
        assert down.shape == (3, 32) and up.shape == (96, 3)
        expected = base.state_dict()[f"{name}.weight"] + scale * up @ down
        assert relative_error(plain[f"{name}.weight"], expected) < 1e-12


def test_a_merged_network_is_a_plain_one_of_its_own(tmp_path):
    network, base = adapted(ALL)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    plain = merged(network)
    assert list(plain.state_dict()) == list(base.state_dict())
    assert not any("peft" in type(module).__module__ for module in plain.modules())
    assert trainable(plain) == [name for name, _ in base.named_parameters()]
    plain.save_pretrained(tmp_path)
    loaded = type(base).from_pretrained(tmp_path, torch_dtype=torch.float64)
    assert torch.equal(answer(loaded), answer(plain))
    randomise(plain, seed=9)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters_alone_learn(checkpointing):
    network, _ = adapted()
    if checkpointing:
        network.enable_gradient_checkpointing()
    given = tiny_inputs(LAYOUT, dtype=torch.float64)
    key = SampleKey(0, [0, 0], [0, 1])
    loss = DiffusionObjective().loss(
        network.train(), given.clean, layout=LAYOUT, key=key, labels=given.labels
    )
    loss.mean.backward()
    learning = {
        name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None
    }
    assert set(learning) == set(trainable(network))
    assert len(learning) == 2 * 2 * len(TARGETS) and all(".lora_" in name for name in learning)
    assert all(gradient.any() for gradient in learning.values())


@pytest.mark.parametrize("target", ["qvk", "blocks", "mlp", "embedding_table", "kv", ""])
def test_targets_that_are_no_linear_layers(target):
    network = tiny_model()
    with pytest.raises(UserError, match=r"lora\.targets .*attn\.qkv, attn\.proj, mlp\.fc1.*, not ") as caught:
        add_lora(network, 2, None, ["qkv", target])
    assert repr(target) in str(caught.value)
    assert len(trainable(network)) == len(list(network.parameters()))


def test_a_target_means_linear_layers_alone():
    network = tiny_model()
    add_lora(network, 2, None, ["0"])  # t_embedder.mlp.0, but not blocks.0
    assert {name.partition(".lora")[0] for name in trainable(network)} == {"t_embedder.mlp.0"}
