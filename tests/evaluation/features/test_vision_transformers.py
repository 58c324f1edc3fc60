"""DINOv2 and CLIP equal transformers called directly, on inputs that the folder of the model describes."""

import json
import re
from typing import Any

import pytest
import torch

from acdit.evaluation.features.table import open_extractor
from acdit.utils.errors import UserError

transformers: Any = pytest.importorskip("transformers")
CPU = torch.device("cpu")
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 7}
MEAN, DEVIATION = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


def processor(side: int, **changes: Any) -> dict[str, Any]:
    return {
        "do_center_crop": True,
        "size": {"shortest_edge": side + 5},
        "crop_size": {"height": side, "width": side},
        "image_mean": MEAN,
        "image_std": DEVIATION,
        **changes,
    }


def build(kind: str, folder):
    """Save a small network of random weights, with its processor, and return it."""
    torch.manual_seed(0)
    if kind == "dinov2":
        network = transformers.Dinov2Model(transformers.Dinov2Config(**SMALL, image_size=42))
    else:
        config = transformers.CLIPVisionConfig(
            **SMALL, image_size=28, intermediate_size=24, projection_dim=12
        )
        network = transformers.CLIPVisionModelWithProjection(config)
    for weight in network.parameters():  # the usual initialisation is too small to tell pictures apart
        torch.nn.init.normal_(weight, 0, 0.2)
    network.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor(28)))
    return network


@pytest.fixture(params=["dinov2", "clip"])
def model(request, tmp_path):
    return request.param, tmp_path, build(request.param, tmp_path)


def outputs(kind: str, network: Any, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        if kind == "dinov2":
            return network.layernorm(network.encoder(network.embeddings(inputs)).last_hidden_state)[:, 0]
        return network.visual_projection(network.vision_model(inputs).pooler_output)


def relative(answer: torch.Tensor, expected: torch.Tensor) -> float:
    return float((answer - expected).norm() / expected.norm())


def test_features_are_those_of_transformers(model):
    kind, folder, network = model
    pixels = torch.randint(0, 256, (9, 3, 28, 28), generator=torch.Generator().manual_seed(0))
    inputs = (pixels / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)
    extractor = open_extractor(f"{kind}:{folder}", (3, 28, 28), CPU)
    answer = extractor(pixels / 127.5 - 1).values
    expected = outputs(kind, network, inputs)
    assert relative(answer, expected) <= 1e-5 and relative(expected[0], expected[1]) > 0.01
    assert answer.shape == (9, 16 if kind == "dinov2" else 12)
    one = torch.cat([extractor(part / 127.5 - 1).values for part in pixels.split(1)])
    assert ((one - answer).norm(dim=1) / answer.norm(dim=1)).max() <= 1e-4
    info = extractor.info
    assert info.name == {"dinov2": "dinov2-vit-16x2-7", "clip": "clip-vit-16x2-7-28"}[kind]
    assert (info.input_size, info.resizing, info.pixels) == (28, "bicubic-antialias", "uint8")
    assert str(MEAN) in info.normalisation and len(info.version) == 16


def test_resizing_is_that_of_the_processor_of_transformers_without_its_crop(model):
    kind, folder, _ = model
    noise = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, (50, 50), mode="bicubic").clamp(0, 1)
    pixels = (smooth * 255).round().byte()
    extractor: Any = open_extractor(f"{kind}:{folder}", (3, 50, 50), CPU)
    described = processor(28, size={"shortest_edge": 28})
    reference = transformers.CLIPImageProcessorPil(**described)
    expected = reference(pixels[0].permute(1, 2, 0).numpy(), return_tensors="pt")["pixel_values"]
    levels = (extractor._prepare(pixels) - expected).abs() * 255 * torch.tensor(DEVIATION).view(3, 1, 1)
    assert levels.max() <= 1.01  # transformers rounds to 8 bits after each of the two axes


def test_the_image_network_of_a_whole_clip_model_is_loaded(tmp_path):
    torch.manual_seed(0)
    vision = {**SMALL, "image_size": 28, "intermediate_size": 24}
    text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 50}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    whole = transformers.CLIPModel(config).eval()
    whole.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["vision_config"].get("projection_dim") != 12  # it stands in the whole model's part alone
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor(28)))
    pixels = torch.randint(0, 256, (2, 3, 28, 28))
    extractor: Any = open_extractor(f"clip:{tmp_path}", (3, 28, 28), CPU)
    with torch.no_grad():
        inputs = extractor._prepare(pixels.byte())
        expected = whole.visual_projection(whole.vision_model(inputs).pooler_output)
    assert relative(extractor(pixels / 127.5 - 1).values, expected) <= 1e-5


@pytest.mark.parametrize("size", [{"size": 28}, {"size": {"height": 28, "width": 28}}, {"crop_size": 28}])
def test_every_spelling_of_the_size_is_read(size, tmp_path):
    build("dinov2", tmp_path)
    described = processor(14, do_center_crop="crop_size" in size, **size)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(described))
    assert open_extractor(f"dinov2:{tmp_path}", (1, 8, 8), CPU).info.input_size == 28


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("preprocessor_config.json", None, "preprocessor_config.json does not exist"),
        ("preprocessor_config.json", {"image_mean": [0.5]}, "image_mean must be a list of 3 values"),
        ("preprocessor_config.json", {"image_std": [1, 0, 1]}, "image_std must be"),
        (
            "preprocessor_config.json",
            {"crop_size": {"height": 28, "width": 20}},
            "must be the side of a square",
        ),
        ("preprocessor_config.json", {"crop_size": 10**9}, "must be the side of a square from 1 to 2048"),
        ("preprocessor_config.json", {"crop_size": None}, "crop_size must be the side of a square"),
        ("preprocessor_config.json", {"crop_size": [28]}, "crop_size must be the side of a square"),
        (
            "preprocessor_config.json",
            {"crop_size": {"height": [2], "width": 2}},
            "must be the side of a square",
        ),
        ("preprocessor_config.json", {"crop_size": 30}, "its images have 30 pixels a side"),
        ("config.json", None, "the folder has no config.json"),
        ("config.json", {"model_type": "bert"}, "has a model of type 'bert', not"),
        ("config.json", {"model_type": None}, "has a model of type None"),
        ("config.json", {"hidden_size": 2**20}, "parameters, but"),
        ("config.json", {"num_hidden_layers": 10**9}, "layers, but there are"),
        ("config.json", {"num_attention_heads": 0}, "is damaged"),
        ("config.json", {"num_hidden_layers": 3}, "parameters, but|lacks weights"),
        ("config.json", {"patch_size": 4}, "has another size than config.json describes"),
        ("model.safetensors", None, "no weights in a safetensors file"),
    ],
)
def test_what_does_not_fit_is_one_line(model, file, changes, words):
    kind, folder, _ = model
    if changes is None:
        (folder / file).unlink()
    else:
        described = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**described, **changes}))
    with pytest.raises(UserError, match=words) as caught:
        open_extractor(f"{kind}:{folder}", (3, 8, 8), CPU)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_weights_in_a_pickle_are_not_read(model):
    kind, folder, network = model
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="no weights in a safetensors file"):
        open_extractor(f"{kind}:{folder}", (3, 8, 8), CPU)


@pytest.mark.parametrize("kind", ["dinov2", "clip"])
def test_a_name_that_is_no_model_is_one_line(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("acdit.pipelines.hub.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, words in (
        (str(tmp_path / "none"), "does not exist, and cannot be the name of a model of"),
        ("nobody/no-such-model", "neither a folder nor a model in the cache"),
    ):
        with pytest.raises(UserError, match=re.escape(words)) as caught:
            open_extractor(f"{kind}:{name}", (3, 8, 8), CPU)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match=f"write {kind}:MODEL"):
        open_extractor(kind, (3, 8, 8), CPU)
