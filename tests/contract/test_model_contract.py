"""What diffusers demands of every model: files, data types, calls, training steps, averages, devices."""

import copy
import inspect
import json
from typing import Any

import pytest
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.training_utils import EMAModel

from acdit.model.transformer import ACDiTOutput, ACDiTTransformer
from tests.model.test_offloading import KINDS, answers
from tests.tiny import relative_error, tiny_inputs, tiny_model

LAYOUT = KINDS["classes"][0]


def answer(network: Any, **more: Any) -> Any:
    given = tiny_inputs(LAYOUT, dtype=network.dtype)
    named = {"layout": LAYOUT, "clean": given.clean, "labels": given.labels}
    return network(given.noised, given.timestep, **named, **more)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [{}, {"variant": "fp16"}, {"max_shard_size": "20KB"}])
def test_saved_and_loaded(kind, more, tmp_path):
    layout, config = KINDS[kind]
    network = tiny_model(**config)
    network.save_pretrained(tmp_path, **more)
    files = {path.name for path in tmp_path.iterdir()}
    assert "network.py" in files
    assert all(name.endswith((".safetensors", ".json")) for name in files - {"network.py"})
    assert ("max_shard_size" in more) == any("index" in name for name in files)
    loaded = ACDiTTransformer.from_pretrained(tmp_path, variant=more.get("variant"))
    assert loaded.to_json_string() == network.to_json_string()
    assert not loaded.training and torch.equal(answers(loaded, layout), answers(network, layout))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_loaded_in_another_precision(dtype, tmp_path):
    network = tiny_model()
    network.save_pretrained(tmp_path)
    loaded = ACDiTTransformer.from_pretrained(tmp_path, torch_dtype=dtype)
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    with torch.no_grad():
        error = relative_error(answer(loaded).sample.double(), answer(network).sample.double())
    assert error < 30 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)


def test_made_from_its_configuration():
    network = tiny_model()
    again: Any = ACDiTTransformer.from_config(network.config)
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(answer(again.eval()).sample, answer(network).sample)
    assert json.loads(network.to_json_string())["_class_name"] == "ACDiTTransformer"
    assert isinstance(again, ModelMixin) and again.to_json_string() == network.to_json_string()


def test_placed_by_a_device_map(tmp_path):
    network = tiny_model()
    network.save_pretrained(tmp_path)
    loaded = ACDiTTransformer.from_pretrained(tmp_path, device_map={"": "cpu"})
    with torch.no_grad():
        assert torch.equal(answer(loaded).sample, answer(network).sample)


def test_a_call_is_deterministic_and_a_tuple_if_asked():
    network = tiny_model()
    with torch.no_grad():
        first, second, values = answer(network), answer(network), answer(network, return_dict=False)
    assert isinstance(first, ACDiTOutput) and isinstance(values, tuple)
    assert first.sample is not None and second.sample is not None
    assert torch.equal(first.sample, second.sample) and torch.equal(first.sample, values[0])
    assert list(inspect.signature(network.forward).parameters)[:2] == ["noised", "timestep"]


def test_a_training_step_and_an_average():
    network = tiny_model().train()
    average = EMAModel(network.parameters(), decay=0.5, min_decay=0.5)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    steps, losses = [], []
    for _ in range(2):  # the first step of an average takes the weights as they are
        loss = answer(network).sample.square().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
        optimizer.step()
        average.step(network.parameters())
        steps.append(copy.deepcopy(network.state_dict()))
        losses.append(loss.item())
    assert losses[1] < losses[0]
    for (name, _), shadow in zip(network.named_parameters(), average.shadow_params, strict=True):
        torch.testing.assert_close(shadow, (steps[0][name] + steps[1][name]) / 2)


def test_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        network = tiny_model(dtype=torch.float64).train()
        if checkpointing:
            network.enable_gradient_checkpointing()
        assert network.is_gradient_checkpointing == checkpointing
        answer(network).sample.square().sum().backward()
        gradients.append(
            torch.cat([each.grad.flatten() for each in network.parameters() if each.grad is not None])
        )
    assert relative_error(gradients[1], gradients[0]) < 1e-12
