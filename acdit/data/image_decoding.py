"""Decode images of any mode and orientation to square tensors, and detect damaged ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_ASPECT = 100  # maximum ratio of the sides: ADM's crop needs gigabytes for very narrow images


class Unreadable(Exception):
    """Exception for a file that cannot be decoded; its message is the reason."""


def check_header(encoded: bytes | str) -> None:
    """Raise Unreadable unless the file starts like an image. Only a few bytes are read."""
    with _opened(encoded):
        pass


def decode_image(encoded: bytes | str, side: int, channels: int) -> torch.Tensor:
    """Return the centre crop of an image as (channels, side, side) float32 in [-1, 1].

    The EXIF orientation is applied, and transparent pixels are composited onto white.

    Args:
        encoded: bytes or path of the image file.
        side: height and width of the crop in pixels.
        channels: 1 for grey, 3 for colour.

    Raises:
        Unreadable: if the file cannot be decoded.
    """
    with _opened(encoded) as image:
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise Unreadable(f"{image.width}x{image.height} pixels is too narrow to crop")
        image = eight_bit(ImageOps.exif_transpose(image)).convert("RGB")
        image = centre_crop(image.convert("L") if channels == 1 else image, side)
        pixels = np.array(image, dtype=np.float32)
    return torch.from_numpy(pixels.reshape(side, side, channels)).permute(2, 0, 1).contiguous() / 127.5 - 1


@contextmanager
def _opened(encoded: bytes | str) -> Iterator[Image.Image]:
    try:
        with Image.open(BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            yield image
    except Unreadable:
        raise
    except UnidentifiedImageError as fault:
        raise Unreadable("not an image") from fault
    except Exception as fault:  # Pillow raises SyntaxError, struct.error and others on broken files
        raise Unreadable(f"{type(fault).__name__}: {fault}") from fault


def eight_bit(image: Image.Image) -> Image.Image:
    """Convert an image to 8 bits per channel without transparency.

    Raises:
        Unreadable: if it has 32-bit pixels.
    """
    if image.mode in ("I", "F"):
        raise Unreadable(f"32-bit pixels (mode {image.mode}) have no fixed range")
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image


def centre_crop(image: Image.Image, side: int) -> Image.Image:
    """Crop the central square of an image as in ADM.

    The image is halved with a box filter while it is at least twice too large, resized with a bicubic filter,
    and cropped.
    """
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
