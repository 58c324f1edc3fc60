"""Costs of fine-tuning with adapters, against torch's counter and real networks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from acdit.cli.main import main
from acdit.diffusion.schedulers import default_sampler
from acdit.model import split_attention as split
from acdit.model.adapter_counts import AdapterDimensions, adapter_training_flops
from acdit.model.flops import Dimensions, training_flops
from acdit.model.layout import Layout
from acdit.model.transformer import ACDiTTransformer
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.training.lora import add_lora
from acdit.training.plan import make_plan
from acdit.training.recipes import load_recipe
from acdit.utils.errors import UserError

LAYOUT = Layout((16, 16), (8, 8))
EVERYWHERE = ["qkv", "proj", "fc1", "fc2", "adaLN_modulation.1", "x_embedder", "mlp.0", "mlp.2", "linear"]


@pytest.fixture
def saved(tmp_path, monkeypatch) -> Path:
    """Return the folder of an untrained generator of MNIST's digits; attention reads no unseen block."""
    exact = split._groups
    monkeypatch.setattr(split, "_groups", lambda visibility, size: exact(visibility, 1))
    monkeypatch.chdir(tmp_path)
    network = ACDiTTransformer(4, (16, 16), 3, 64, 2, num_classes=10)
    folder = tmp_path / "model"
    ACDiTImagePipeline(
        network, default_sampler("v"), grid=(16, 16), block=(8, 8), patch=(2, 2)
    ).save_pretrained(folder)
    return folder


def recipe_of(folder: Path, **changes: Any):
    plain = {
        "training.init_from": str(folder),
        "layout.patch": 2,
        "layout.blocks": ["8x8"],
        "diffusion.draws": 1,
        "diffusion.views": None,
        "lora.rank": 4,
    }
    return load_recipe("mnist", **(plain | changes))


@pytest.mark.parametrize(("label_table", "checkpointing"), [(False, True), (True, False)])
@pytest.mark.parametrize(
    "targets", [["qkv", "proj", "fc1", "fc2"], ["fc2"], ["blocks.1.attn.proj"], ["mlp.2"], EVERYWHERE]
)
def test_plans_count_what_torch_counts(targets, label_table, checkpointing, saved):
    changes = {"lora.targets": targets, "lora.label_table": label_table}
    plan = make_plan(recipe_of(saved, **changes, **{"training.gradient_checkpointing": checkpointing}))
    with torch.device("meta"):
        network = ACDiTTransformer(4, (16, 16), 3, 64, 2, num_classes=10)
        add_lora(network, 4, None, targets)
        assert network.y_embedder is not None
        network.y_embedder.requires_grad_(label_table)
        noised = torch.empty(1, 4, 64, 4)
        timestep, labels = torch.empty(1, 4), torch.zeros(1, dtype=torch.long)
    network.set_attention_backend("split")
    # torch's kernel on meta recomputes scores in the backward, which is no product of the model: without it
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        given: dict[str, Any] = {"layout": LAYOUT, "clean": noised[:, :3], "labels": labels}
        sample = network(noised, timestep, **given).sample
        forward = counter.get_total_flops()
        sample.sum().backward()
    expected = counter.get_total_flops() + (forward if checkpointing else 0)
    (cost,) = plan.layouts
    assert cost.training_flops == pytest.approx(expected, rel=0.01)
    assert plan.parameters == sum(weight.numel() for weight in network.parameters())
    assert plan.trained == sum(each.numel() for each in network.parameters() if each.requires_grad)
    assert plan.ddp.optimizer == 8 * plan.trained and plan.ddp.weights == 4 * plan.parameters


KINDS: dict[str, dict[str, Any]] = {
    "text": {"vocab_size": 20, "time_conditioning": False, "axis_lengths": (16,)},
    "without classes": {"in_channels": 4, "axis_lengths": (16, 16)},
    "noised context": {"in_channels": 4, "axis_lengths": (16, 16), "num_classes": 10, "context": "noised"},
}


@pytest.mark.usefixtures("saved")
@pytest.mark.parametrize("targets", [["qkv", "proj", "fc1", "fc2"], ["fc1"], ["linear"]])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network_counts_what_torch_counts(kind, targets):
    layout = Layout((16,), (4,)) if kind == "text" else LAYOUT
    with torch.device("meta"):
        network = ACDiTTransformer(num_layers=3, hidden_size=64, num_heads=2, **KINDS[kind])
        add_lora(network, 4, None, targets)
        shape = (1, layout.num_blocks, layout.block_tokens)
        noised = torch.zeros(*shape, dtype=torch.long) if kind == "text" else torch.empty(*shape, 4)
        timestep = None if kind == "text" else torch.empty(1, layout.num_blocks)
    network.set_attention_backend("split")
    clean = None if kind == "noised context" else noised[:, :-1]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(noised, timestep, layout=layout, clean=clean).sample.sum().backward()
    model = Dimensions.of(network.config)
    adapters = AdapterDimensions.of(model, rank=4, targets=targets, label_table=False)
    counted = adapter_training_flops(model, layout, adapters)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_without_an_adapter_nothing_has_a_gradient(kind):
    layout = Layout((16,), (4,)) if kind == "text" else LAYOUT
    with torch.device("meta"):
        network = ACDiTTransformer(num_layers=3, hidden_size=64, num_heads=2, **KINDS[kind])
    model = Dimensions.of(network.config)
    frozen = AdapterDimensions(1, frozenset(), label_table=False)
    for views in (None, 2):
        counted = adapter_training_flops(model, layout, frozen, draws=2, views=views)
        assert counted == training_flops(model, layout, draws=2, views=views) / 3


def test_views_are_drawn_as_without_adapters(saved):
    """With rank 1 at the end of a large network, a step costs a forward, and a backward of the last layer."""
    whole = make_plan(recipe_of(saved, **{"lora.rank": 0, "diffusion.views": 2, "diffusion.draws": 3}))
    changes = {"lora.targets": ["final_layer.linear"], "lora.label_table": False, "lora.rank": 1}
    last = make_plan(recipe_of(saved, **changes, **{"diffusion.views": 2, "diffusion.draws": 3}))
    (before,), (after,) = whole.layouts, last.layouts
    assert after.training_flops == pytest.approx(before.training_flops / 3, rel=0.01)
    assert after.forward_flops == before.forward_flops and after.network_tokens == before.network_tokens


def test_a_target_that_names_no_layer(saved, capsys):
    with pytest.raises(UserError, match=r"lora.targets must name linear layers, such as .*attn.qkv.*'qvk'"):
        make_plan(recipe_of(saved, **{"lora.targets": ["qvk"]}))
    words = ["plan", "mnist", "--training.init_from", str(saved), "--layout.patch", "2", "--json"]
    assert main([*words, "--layout.blocks", "8x8", "--lora.rank", "4", "--lora.targets", '["qkv"]']) == 0
    report = json.loads(capsys.readouterr().out)
    # an adapter of 64 inputs and 192 outputs in each of 3 layers, and 11 rows of the class table
    assert report["trained"] == 3 * 4 * (64 + 192) + 11 * 64
