"""From an encoded image to a square tensor, whatever its mode, orientation or damage."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_ASPECT = 100  # ADM's crop resizes the whole image first: a line of pixels would take gigabytes


class Unreadable(Exception):
    """An image that cannot be decoded; the message is the reason."""


def check_header(encoded: bytes | str) -> None:
    """Raise Unreadable unless the file starts like an image. Reads a few bytes only."""
    with _opened(encoded):
        pass


def decode_image(encoded: bytes | str, edge: int, channels: int) -> torch.Tensor:
    """Centre crop of an image file, or of its bytes: (channels, edge, edge) float32 in [-1, 1].

    The EXIF orientation is applied and transparent pixels lie on white. Raises Unreadable.
    """
    with _opened(encoded) as image:
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise Unreadable(f"{image.width}x{image.height} pixels is too narrow to crop")
        image = eight_bit(ImageOps.exif_transpose(image)).convert("RGB")
        image = centre_crop(image.convert("L") if channels == 1 else image, edge)
        pixels = np.array(image, dtype=np.float32)
    return torch.from_numpy(pixels.reshape(edge, edge, channels)).permute(2, 0, 1).contiguous() / 127.5 - 1


@contextmanager
def _opened(encoded: bytes | str) -> Iterator[Image.Image]:
    try:
        with Image.open(BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            yield image
    except Unreadable:
        raise
    except UnidentifiedImageError as fault:
        raise Unreadable("not an image") from fault
    except Exception as fault:  # Pillow raises almost anything on broken files: SyntaxError, struct.error ..
        raise Unreadable(f"{type(fault).__name__}: {fault}") from fault


def eight_bit(image: Image.Image) -> Image.Image:
    """8 bits a channel and no transparency."""
    if image.mode in ("I", "F"):
        raise Unreadable(f"32-bit pixels (mode {image.mode}) have no fixed range")
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image


def centre_crop(image: Image.Image, edge: int) -> Image.Image:
    """ADM's crop: halve with a box filter while twice too large, then bicubic, then the central square."""
    while min(image.size) >= 2 * edge:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = edge / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    return image.crop((left, top, left + edge, top + edge))
