"""LoRA weights of pipelines: loaded, scaled, chosen, fused and saved, against sums of matrices."""

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from acdit.utils.errors import UserError
from tests.contract.trio import PIPELINES, sampled, video_pipeline
from tests.tiny import relative_error

LAYER = "blocks.1.attn"


def low_rank(outputs: int, rank: int, inputs: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Matrices A (rank, inputs) and B (outputs, rank)."""
    source = torch.Generator().manual_seed(seed)
    down, up = torch.randn(rank, inputs, generator=source), torch.randn(outputs, rank, generator=source)
    return down / 3, up / 3


def names(layer: str, pair: tuple[Tensor, Tensor], down: str = ".lora_A.weight", up: str = ".lora_B.weight"):
    return {layer + down: pair[0], layer + up: pair[1]}


def separate() -> dict[str, Tensor]:
    """Adapters of the three projections, with three ranks."""
    weights: dict[str, Tensor] = {}
    for part, rank in (("to_q", 2), ("to_k", 3), ("to_v", 1)):
        weights |= names(f"transformer.{LAYER}.{part}", low_rank(32, rank, seed=rank))
    return weights


def fused_weight(pipeline, layer: str = f"{LAYER}.qkv") -> Tensor:
    """The weight of a layer, after all active adapters are fused and unloaded."""
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    return pipeline.transformer.get_submodule(layer).weight.detach()


@pytest.mark.parametrize("kind", PIPELINES)
def test_an_adapter_acts_and_is_taken_away(kind, tmp_path):
    pipeline = PIPELINES[kind]()
    before = sampled(pipeline)
    weights = {name: 4 * tensor for name, tensor in separate().items()}
    save_file(weights, tmp_path / "pytorch_lora_weights.safetensors")
    pipeline.load_lora_weights(tmp_path, adapter_name="one")
    assert pipeline.get_active_adapters() == ["one"]
    assert pipeline.get_list_adapters() == {"transformer": ["one"]}
    adapted = sampled(pipeline)
    assert adapted.shape != before.shape or not torch.equal(adapted, before)
    pipeline.set_adapters("one", 0.0)
    assert torch.equal(sampled(pipeline), before)
    pipeline.unload_lora_weights()
    assert torch.equal(sampled(pipeline), before)


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_pipeline_is_saved_once_its_adapters_are_merged(kind, tmp_path):
    pipeline = PIPELINES[kind]()
    pipeline.load_lora_weights({name: 4 * tensor for name, tensor in separate().items()})
    adapted = sampled(pipeline)
    for change in (lambda: None, pipeline.fuse_lora):
        change()
        with pytest.raises(
            UserError, match=r"^the transformer has adapters.*: merge them with fuse_lora\(\)"
        ):
            pipeline.save_pretrained(tmp_path / "saved")
        assert not (tmp_path / "saved").exists()
    pipeline.unload_lora_weights()
    pipeline.save_pretrained(tmp_path / "saved")
    merged = sampled(type(pipeline).from_pretrained(tmp_path / "saved"))
    assert relative_error(merged, adapted) < 1e-5


@pytest.mark.parametrize("scale", ["none", "alphas", "network_alphas"])
@pytest.mark.parametrize("parts", [("to_q", "to_k", "to_v"), ("to_v",), ("to_q", "to_v")])
def test_separate_projections_change_their_own_rows(parts, scale):
    """W + (alpha / rank) B A on the rows of each projection, and nothing elsewhere."""
    pipeline = video_pipeline()
    expected = pipeline.transformer.get_submodule(f"{LAYER}.qkv").weight.detach().clone()
    weights, alphas = {}, {}
    for index, part in enumerate(("to_q", "to_k", "to_v")):
        if part in parts:
            down, up = low_rank(32, index + 1, seed=index)
            weights |= names(f"transformer.{LAYER}.{part}", (down, up))
            alphas[f"transformer.{LAYER}.{part}.alpha"] = 5.0 - index
            factor = 1.0 if scale == "none" else (5.0 - index) / (index + 1)
            expected[32 * index : 32 * (index + 1)] += factor * up @ down
    if scale == "alphas":
        weights |= {name: torch.tensor(alpha) for name, alpha in alphas.items()}
    pipeline.load_lora_weights(weights, network_alphas=alphas if scale == "network_alphas" else None)
    assert relative_error(fused_weight(pipeline), expected) < 1e-6


@pytest.mark.parametrize(
    ("name", "down", "up"),
    [
        ("transformer.blocks.1.attn.qkv", ".lora_A.weight", ".lora_B.weight"),
        ("blocks.1.attn.qkv", ".lora_A.weight", ".lora_B.weight"),
        ("base_model.model.blocks.1.attn.qkv", ".lora_A.weight", ".lora_B.weight"),
        (
            "base_model.model.transformer.blocks.1.attn.qkv",
            ".lora_A.default.weight",
            ".lora_B.default.weight",
        ),
        ("diffusion_model.blocks.1.attn.qkv", ".lora_A.weight", ".lora_B.weight"),
        ("transformer.blocks.1.attn.qkv", ".lora.down.weight", ".lora.up.weight"),
        ("lora_unet_blocks_1_attn_qkv", ".lora_down.weight", ".lora_up.weight"),
        ("lora_transformer_blocks_1_attn_qkv", ".lora_down.weight", ".lora_up.weight"),
    ],
)
def test_names_of_other_programs(name, down, up):
    pipeline, pair = video_pipeline(), low_rank(96, 2)
    expected = pipeline.transformer.get_submodule(f"{LAYER}.qkv").weight.detach() + 3 * pair[1] @ pair[0]
    pipeline.load_lora_weights(names(name, pair, down, up) | {f"{name}.alpha": torch.tensor(6.0)})
    assert relative_error(fused_weight(pipeline), expected) < 1e-6


def test_an_output_projection_has_two_names():
    for name in ("to_out.0", "proj"):
        pipeline, pair = video_pipeline(), low_rank(32, 2)
        expected = pipeline.transformer.get_submodule(f"{LAYER}.proj").weight.detach() + pair[1] @ pair[0]
        pipeline.load_lora_weights(names(f"{LAYER}.{name}", pair))
        assert relative_error(fused_weight(pipeline, f"{LAYER}.proj"), expected) < 1e-6


def test_saved_weights_are_loaded_with_their_scale(tmp_path):
    first, second = video_pipeline(), video_pipeline()
    config = LoraConfig(r=2, lora_alpha=5, target_modules=["qkv", "fc1"], init_lora_weights=False)
    first.transformer.add_adapter(config, "one")
    first.save_lora_weights(
        tmp_path,
        get_peft_model_state_dict(first.transformer, adapter_name="one"),
        transformer_lora_adapter_metadata=first.transformer.peft_config["one"].to_dict()
        | {"target_modules": ["qkv", "fc1"]},
    )
    second.load_lora_weights(tmp_path)
    assert relative_error(sampled(second), sampled(first)) < 1e-5
    assert relative_error(sampled(second), sampled(video_pipeline())) > 1e-3


def test_several_adapters_add_up_by_their_weights_and_are_fused_and_unfused():
    pipeline, pairs = video_pipeline(), {name: low_rank(96, 2, seed=len(name)) for name in ("a", "bb")}
    before, base = (
        sampled(pipeline),
        pipeline.transformer.get_submodule(f"{LAYER}.qkv").weight.detach().clone(),
    )
    for name, pair in pairs.items():
        pipeline.load_lora_weights(names(f"transformer.{LAYER}.qkv", pair), adapter_name=name)
    pipeline.set_adapters(["a", "bb"], [0.5, 2.0])
    assert sorted(pipeline.get_active_adapters()) == ["a", "bb"]
    adapted = sampled(pipeline)
    pipeline.fuse_lora()
    assert pipeline.num_fused_loras == 2 and relative_error(sampled(pipeline), adapted) < 1e-5
    pipeline.unfuse_lora()
    assert pipeline.num_fused_loras == 0 and relative_error(sampled(pipeline), adapted) < 1e-5
    expected = base + sum(
        scale * up @ down for scale, (down, up) in zip((0.5, 2.0), pairs.values(), strict=True)
    )
    pipeline.delete_adapters("bb")
    assert pipeline.get_list_adapters() == {"transformer": ["a"]}
    pipeline.disable_lora()
    assert relative_error(sampled(pipeline), before) < 1e-5  # fusing and unfusing rounds the weights
    pipeline = video_pipeline()
    for name, pair in pairs.items():
        pipeline.load_lora_weights(names(f"transformer.{LAYER}.qkv", pair), adapter_name=name)
    pipeline.set_adapters(["a", "bb"], [0.5, 2.0])
    assert relative_error(fused_weight(pipeline), expected) < 1e-6


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (names("transformer.blocks.7.attn.qkv", low_rank(96, 2)), r"blocks\.7\.attn\.qkv"),
        (names(f"{LAYER}.qkv", low_rank(95, 2)), "maps 32 to 95 values"),
        (names(f"{LAYER}.to_q", low_rank(31, 2)), "32 outputs, not 31"),
        (names(f"{LAYER}.to_q", low_rank(32, 2)) | names(f"{LAYER}.qkv", low_rank(96, 2)), "both"),
        ({f"{LAYER}.qkv.lora_A.weight": torch.ones(2, 32)}, "incomplete"),
        ({f"{LAYER}.qkv.dora_scale": torch.ones(2)}, "dora_scale"),
        ({f"{LAYER}.qkv.weight": torch.ones(2)}, "no part of a low-rank adapter"),
    ],
)
def test_weights_that_do_not_fit(weights, words):
    pipeline = video_pipeline()
    with pytest.raises(UserError, match=words):
        pipeline.load_lora_weights(weights)
    assert pipeline.get_list_adapters() == {}


def test_no_pickle_is_read(tmp_path):
    torch.save(separate(), tmp_path / "pytorch_lora_weights.bin")
    for source, more in ((tmp_path, {}), (tmp_path, {"weight_name": "pytorch_lora_weights.bin"})):
        with pytest.raises(UserError):
            video_pipeline().load_lora_weights(source, **more)
    with pytest.raises(UserError, match="safetensors"):
        video_pipeline().load_lora_weights(tmp_path / "pytorch_lora_weights.bin")
