"""The classification pipeline: any picture in, classes with scores out."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from acdit.data.autoencoders import encode
from acdit.data.image_decoding import decode_image
from acdit.pipelines.classification import ACDiTImageClassificationPipeline
from acdit.utils.errors import UserError
from tests.pipelines.small import NAMES, build_classifier, picture
from tests.tiny import relative_error


@pytest.fixture(scope="module")
def pipe() -> Any:
    """A classifier of grey images with two heads."""
    return build_classifier(layers=(2, 1), pooling=("mean", "attention"))


@pytest.fixture(scope="module")
def colours() -> Any:
    """A classifier of colour images."""
    return build_classifier(3)


def logits(pipeline: Any, images: Any) -> Tensor:
    return pipeline(images).logits


def test_the_best_classes_come_first_with_their_probabilities(pipe):
    output = pipe([picture(1, seed=1), picture(1, seed=2)], top_k=2)
    assert output.logits.shape == (2, 2, 3)
    for predictions, scores in zip(output.predictions, output.logits[:, -1], strict=True):
        probabilities = (scores.exp() / scores.exp().sum()).tolist()
        order = sorted(range(3), key=lambda index: -probabilities[index])[:2]
        assert [each["label"] for each in predictions] == [NAMES[index] for index in order]
        expected = [probabilities[index] for index in order]
        assert [each["score"] for each in predictions] == pytest.approx(expected, abs=1e-6)
    two = {"top_k": 2, "head": -1}
    of_numpy = {name: np.int64(value) for name, value in two.items()}
    assert pipe(picture(1), **of_numpy).predictions == pipe(picture(1), **two).predictions
    everything = pipe(picture(1, seed=1), top_k=99).predictions[0]
    assert {each["label"] for each in everything} == set(NAMES.values())
    assert sum(each["score"] for each in everything) == pytest.approx(1, abs=1e-6)
    predictions, values = pipe(picture(1, seed=1), return_dict=False)
    assert predictions == [everything] and relative_error(values, output.logits[:1]) < 1e-5


def test_every_head_can_be_asked(pipe):
    image = picture(1, seed=1)
    first, last = (pipe(image, head=head).predictions for head in (0, 1))
    assert first != last and pipe(image).predictions == last and pipe(image, head=-2).predictions == first
    single = build_classifier(layers=(2,))
    single.classifier.heads[0].load_state_dict(pipe.classifier.heads[0].state_dict())
    assert torch.equal(single(image).logits[:, 0], pipe(image).logits[:, 0])


def files() -> dict[str, bytes]:
    """Pictures of all modes and several sizes, as files."""
    levels = np.random.default_rng(3).integers(0, 256, (23, 17, 4), dtype=np.uint8)
    colour = Image.fromarray(levels[..., :3])
    deep = levels[..., 0].astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    made: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "L": (Image.fromarray(levels[..., 0]), "PNG", {}),
        "1": (colour.convert("1"), "PNG", {}),
        "P": (colour.convert("P"), "PNG", {}),
        "LA": (Image.fromarray(levels[..., :2].copy(), "LA"), "PNG", {}),
        "RGBA": (Image.fromarray(levels), "PNG", {}),
        "CMYK": (colour.convert("CMYK"), "JPEG", {}),
        "16 bit": (Image.fromarray(deep), "PNG", {}),
        "EXIF": (colour, "JPEG", {"exif": exif}),
        "wide": (colour.resize((64, 9)), "PNG", {}),
        "as it is": (colour.resize((8, 8)), "PNG", {}),
        "smaller": (colour.resize((3, 5)), "PNG", {}),
    }
    encoded = {}
    for name, (image, form, more) in made.items():
        file = io.BytesIO()
        image.save(file, form, **more)
        encoded[name] = file.getvalue()
    return encoded


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_read_as_for_training(channels, pipe, colours):
    pipeline = pipe if channels == 1 else colours
    encoded = files()
    data = {name: decode_image(content, 8, channels) for name, content in encoded.items()}
    with torch.no_grad():
        expected = torch.cat(
            [
                pipeline.classifier(pipeline.layout.to_blocks(each[None]), layout=pipeline.layout).logits
                for each in data.values()
            ]
        )
    images = [Image.open(io.BytesIO(content)) for content in encoded.values()]
    assert {image.size for image in images} >= {(17, 23), (64, 9), (8, 8), (3, 5)}
    assert {image.mode for image in images} >= {"L", "1", "P", "LA", "RGBA", "CMYK", "I;16", "RGB"}
    one_by_one = torch.cat([logits(pipeline, image) for image in images])
    assert torch.equal(one_by_one, expected)
    assert relative_error(logits(pipeline, images), expected) < 1e-5
    assert len({tuple(row) for row in expected[:, 0].tolist()}) > 8


def test_arrays_tensors_and_lists(colours):
    levels = np.random.default_rng(0).random((2, 8, 8, 3), dtype=np.float32)
    tensor = torch.from_numpy(levels).movedim(-1, 1)
    expected = logits(colours, tensor)
    assert expected.shape[0] == 2
    for given in (levels, [*levels], [*tensor], tuple(tensor), [levels[:1], levels[1:]]):
        assert torch.equal(logits(colours, given), expected)
    assert torch.equal(logits(colours, levels.astype(np.float64)), expected)
    assert torch.equal(logits(colours, levels.astype(">f4")), expected)
    flipped = levels[:, :, ::-1].copy()[:, :, ::-1]  # the same pixels, read backwards
    assert min(flipped.strides) < 0 and torch.equal(logits(colours, flipped), expected)
    images = [Image.fromarray((255 * each).round().astype(np.uint8)) for each in levels]
    mixed = [images[0], torch.from_numpy(np.array(images[1])).movedim(-1, 0) / 255]
    assert relative_error(logits(colours, mixed), logits(colours, images)) < 1e-6
    assert relative_error(logits(colours, tensor[0]), expected[:1]) < 1e-5


def test_tensors_of_other_sizes_are_resized_and_cropped_to_the_middle(colours):
    side = torch.linspace(0, 1, 24)
    ramp = side.expand(3, 16, 24)  # from left to right
    pixels = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(pixels[None], (8, 8), mode="bicubic", antialias=True)
    assert relative_error(logits(colours, pixels), logits(colours, expected.clamp(0, 1))) < 1e-5
    middle = logits(colours, ramp[..., 4:20])
    assert relative_error(logits(colours, ramp), middle) < 1e-2
    assert relative_error(logits(colours, ramp[..., :16]), middle) > 3e-2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "at least one image"),
        (np.zeros((0, 8, 8, 3)), "must hold at least one"),
        (torch.zeros(3, 0, 8), "must hold at least one"),
        ("picture.png", "image must be PIL images"),
        (None, "image must be PIL images"),
        (torch.zeros(8, 8), "3 or 4 axes"),
        (torch.zeros(1, 8, 8), "must have 3 channels, not 1"),
        (np.zeros((8, 8, 4)), "must have 3 channels, not 4"),
        (torch.full((3, 8, 8), 255), "values in 0..1, not 255 to 255"),
        (torch.full((3, 8, 8), torch.nan), "values in 0..1, not nan"),
        (Image.new("F", (8, 8)), "image cannot be read: 32-bit pixels"),
        (Image.new("RGB", (2, 900)), "image of 2x900 pixels is too narrow"),
        (torch.zeros(3, 2, 900), "image of 900x2 pixels is too narrow"),
        ([Image.new("RGB", (8, 8)), "picture.png"], "image must be PIL images"),
    ],
)
def test_images_that_cannot_be_read(colours, given, words):
    with pytest.raises(UserError, match=words) as caught:
        colours(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"top_k": 0}, "top_k must be a whole number of at least 1, not 0"),
        ({"top_k": 2.0}, "top_k must be a whole number"),
        ({"top_k": True}, "top_k must be a whole number"),
        ({"head": 2}, r"head must lie in -2\.\.1 \(heads at the layers 2, 1\), not 2"),
        ({"head": -3}, r"head must lie in -2\.\.1 .*, not -3"),
        ({"head": None}, "head must lie in"),
    ],
    ids=str,
)
def test_arguments_out_of_range(pipe, arguments, words):
    with pytest.raises(UserError, match=words):
        pipe(picture(1), **arguments)


@pytest.mark.parametrize("kind", ["pixels", "latents", "noised"])
def test_a_batch_equals_single_images(kind):
    pipeline = build_classifier(3, latent=kind == "latents", timestep=300.0 if kind == "noised" else None)
    images = [picture(3, seed=seed) for seed in range(3)]
    together = logits(pipeline, images)
    assert relative_error(torch.cat([logits(pipeline, image) for image in images]), together) < 1e-5
    assert torch.equal(logits(pipeline, images), together)  # the noise is the same in every call


def test_latents_are_the_scaled_means(tmp_path):
    pipeline = build_classifier(latent=True)
    image = picture(3)
    pixels = torch.from_numpy(np.array(image)).movedim(-1, 0)[None] / 127.5 - 1
    latents, _ = encode(pipeline.vae, pixels)
    with torch.no_grad():
        expected = pipeline.classifier(pipeline.layout.to_blocks(latents), layout=pipeline.layout).logits
    assert relative_error(logits(pipeline, image), expected) < 1e-6
    pipeline.save_pretrained(tmp_path)
    loaded = ACDiTImageClassificationPipeline.from_pretrained(tmp_path)
    assert loaded.side == 8 and loaded.pixel_channels == 3
    assert torch.equal(logits(loaded, image), logits(pipeline, image))
    without = ACDiTImageClassificationPipeline.from_pretrained(tmp_path, vae=None)
    with pytest.raises(UserError, match="without its autoencoder: pass vae="):
        without(image)


def test_noise_is_that_of_the_generator():
    pipeline = build_classifier(timestep=250.0)
    blank = torch.full((1, 8, 8), 0.5)  # zero in [-1, 1]
    output = logits(pipeline, blank)
    seen = []
    hook = pipeline.classifier.transformer.x_embedder.register_forward_hook(
        lambda module, given, output: seen.append(given[0])
    )
    pipeline(torch.stack([blank, blank]))
    hook.remove()
    noised = seen[0].unflatten(0, (2, 1))
    assert torch.equal(noised[0], noised[1]) and 0.2 < float(noised.std()) < 0.3  # 250 of 1000
    assert relative_error(logits(pipeline, torch.stack([blank, blank]))[1:], output) < 1e-5
