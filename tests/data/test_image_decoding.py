"""Decoding, against colours known in advance, against Pillow, and against broken files."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from acdit.data.image_decoding import Unreadable, check_header, decode_image

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def levels(encoded: bytes | str, edge: int, channels: int) -> np.ndarray:
    """Decoded pixels as 0..255, (H, W, C)."""
    image = decode_image(encoded, edge, channels)
    assert image.dtype == torch.float32 and image.shape == (channels, edge, edge)
    assert image.min() >= -1 and image.max() <= 1
    return (image.permute(1, 2, 0).double().numpy() + 1) * 127.5


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def with_palette() -> Image.Image:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*GREEN, *BLUE])
    image.paste(0, (0, 0, 2, 4))
    return image


@pytest.mark.parametrize(
    ("encoded", "colour"),
    [
        (encode(Image.new("RGB", (4, 4), (10, 200, 30))), (10, 200, 30)),
        (encode(Image.new("L", (4, 4), 77)), (77, 77, 77)),
        (encode(Image.new("1", (4, 4), 1)), (255, 255, 255)),
        (encode(Image.new("RGBA", (4, 4), (*RED, 0))), (255, 255, 255)),
        (encode(Image.new("RGBA", (4, 4), (*RED, 51))), (255, 204, 204)),
        (encode(Image.new("LA", (4, 4), (0, 51))), (204, 204, 204)),
        (encode(Image.new("RGB", (4, 4), RED), transparency=RED), (255, 255, 255)),
        (encode(Image.new("RGB", (4, 4), RED), transparency=BLUE), RED),
        (encode(Image.fromarray(np.full((4, 4), 257 * 100, np.uint16))), (100, 100, 100)),
        (encode(Image.fromarray(np.full((4, 4), 65535, np.uint16))), (255, 255, 255)),
        (encode(Image.fromarray(np.full((4, 4), 300, np.uint16)), "TIFF"), (1, 1, 1)),
        (encode(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF"), RED),
    ],
)
def test_modes_become_the_right_colour(encoded, colour):
    np.testing.assert_allclose(levels(encoded, 4, 3), np.broadcast_to(colour, (4, 4, 3)), atol=1.01e-3)
    grey = np.dot(colour, (0.299, 0.587, 0.114))  # ITU-R 601
    np.testing.assert_allclose(levels(encoded, 4, 1), np.full((4, 4, 1), grey), atol=0.6)


def test_palette_transparency_is_white():
    assert (levels(encode(with_palette()), 4, 3)[:, :2] == GREEN).all()
    clear = levels(encode(with_palette(), transparency=0), 4, 3)
    np.testing.assert_allclose(clear[:, :2], 255)
    np.testing.assert_allclose(clear[:, 2:], np.broadcast_to(BLUE, (4, 2, 3)), atol=1e-3)


def test_cmyk_jpeg_keeps_its_colour():
    encoded = encode(Image.new("CMYK", (16, 16), (255, 255, 0, 0)), "JPEG", quality=100)
    np.testing.assert_allclose(levels(encoded, 16, 3), np.broadcast_to(BLUE, (16, 16, 3)), atol=4)


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (4, 4), RED)
    image.paste(BLUE, (0, 0, 2, 4))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF 2.3: "the 0th row is the visual right-hand side, the 0th column the visual top"
    upright = levels(encode(image, exif=exif), 4, 3)
    np.testing.assert_allclose(upright[:2], np.broadcast_to(BLUE, (2, 4, 3)), atol=1e-3)
    np.testing.assert_allclose(upright[2:], np.broadcast_to(RED, (2, 4, 3)), atol=1e-3)


def test_a_large_image_is_halved_by_means_of_boxes():
    image = noise(256, 128)  # 128 -> 64 -> 32: two halvings, no further change, 16 columns off each side
    exact = np.asarray(image).astype(float).reshape(32, 4, 64, 4, 3).mean(axis=(1, 3))[:, 16:48]
    np.testing.assert_allclose(
        levels(encode(image), 32, 3), exact, atol=2.0
    )  # Pillow rounds in each of 4 passes


def test_a_smaller_step_is_bicubic():
    image = noise(75, 50)
    expected = image.resize((60, 40), Image.Resampling.BICUBIC).crop((10, 0, 50, 40))
    np.testing.assert_allclose(levels(encode(image), 40, 3), np.asarray(expected), atol=1e-3)


def test_a_tall_image_is_cut_at_top_and_bottom():
    image = noise(8, 11)
    np.testing.assert_allclose(levels(encode(image), 8, 3), np.asarray(image)[1:9], atol=1e-3)


def test_a_small_image_is_enlarged():
    image = noise(5, 5)
    expected = image.resize((12, 12), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(levels(encode(image), 12, 3), np.asarray(expected), atol=1e-3)


def test_a_path_serves_as_well_as_bytes(tmp_path):
    (tmp_path / "image.png").write_bytes(encode(noise(8, 8)))
    assert torch.equal(
        decode_image(str(tmp_path / "image.png"), 8, 3), decode_image(encode(noise(8, 8)), 8, 3)
    )


def broken_png() -> bytes:
    """Whole, but its compressed data make no sense half-way."""
    encoded = encode(noise(64, 64))
    return encoded[:5000] + bytes(1000) + encoded[6000:]


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "not an image"),
        (b"a text", "not an image"),
        (encode(noise(64, 64), "JPEG")[:900], "truncated"),
        (encode(noise(64, 64))[:-3000], "truncated"),
        (broken_png(), "broken data"),
        (encode(Image.new("F", (4, 4), 0.5), "TIFF"), "no fixed range"),
        (encode(Image.new("I", (4, 4), 9), "TIFF"), "no fixed range"),
        (encode(Image.new("L", (101, 1))), "too narrow"),
    ],
)
def test_what_cannot_be_decoded_says_why(encoded, reason):
    with pytest.raises(Unreadable, match=reason) as fault:
        decode_image(encoded, 8, 3)
    assert "0x" not in str(fault.value)  # no memory addresses: the reason is the same each time


def test_a_header_is_checked_without_decoding(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(encode(noise(64, 64), "JPEG")[:900])
    (tmp_path / "text.jpg").write_text("a text")
    check_header(str(tmp_path / "cut.jpg"))
    for name in ("text.jpg", "none.jpg"):
        with pytest.raises(Unreadable):
            check_header(str(tmp_path / name))
