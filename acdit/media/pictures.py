"""Read pictures of any mode and orientation in one way, wherever they come from."""

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 178_956_970  # default maximum number of pixels of a picture: that of Pillow itself
# Errors of the machine, such as too many open files, and not of a picture.
NOT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)


class Unreadable(Exception):
    """Exception for a file that cannot be decoded; its message is the reason."""


@contextmanager
def opened_picture(
    encoded: bytes | str, max_pixels: int = MAX_PIXELS, option: str = "data.max_pixels"
) -> Iterator[Image.Image]:
    """Open an image file, of which only the header is read at first, and yield it.

    Args:
        encoded: bytes or path of the image file.
        max_pixels: maximum number of pixels.
        option: name of the option that sets this maximum, for the message.

    Raises:
        Unreadable: if the file is not an image, is damaged, or has more pixels.
    """
    with _as_unreadable(), _without_limit():
        if isinstance(encoded, str) and Path(encoded).exists() and not Path(encoded).is_file():
            raise Unreadable("not a regular file")  # reading a pipe would wait for its writer
        with Image.open(BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
            if image.width * image.height > max_pixels:
                raise Unreadable(f"{_size(image)}, more than {option} {max_pixels:,}: raise it to read this")
            yield image


def read_picture(
    encoded: bytes | str, max_pixels: int = MAX_PIXELS, option: str = "data.max_pixels"
) -> Image.Image:
    """Return an image file as `rgb_picture` does; see `opened_picture`."""
    with opened_picture(encoded, max_pixels, option) as image:
        return rgb_picture(image)


def rgb_picture(image: Image.Image) -> Image.Image:
    """Convert a picture to RGB: upright by its EXIF orientation, transparent pixels composited onto white.

    Raises:
        Unreadable: if it has 32-bit pixels or is damaged.
    """
    with _as_unreadable():
        return _eight_bit(ImageOps.exif_transpose(image)).convert("RGB")


def check_size(image: Image.Image) -> None:
    """Raise Unreadable if a picture that a caller passes has more pixels than any model's images."""
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable(f"{_size(image)}, more than {MAX_PIXELS:,}: resize it to the images of the model")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Convert an image to 8 bits per channel without transparency."""
    if image.mode in ("I", "F"):
        raise Unreadable(f"32-bit pixels (mode {image.mode}) have no fixed range")
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips at 255
        return Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image


def _size(image: Image.Image) -> str:
    return f"has {image.width:,}x{image.height:,} pixels"


@contextmanager
def _as_unreadable() -> Iterator[None]:
    """Raise Unreadable in place of whatever Pillow raises on a file that it cannot decode."""
    try:
        yield
    except Unreadable:
        raise
    except UnidentifiedImageError as fault:
        raise Unreadable("not an image") from fault
    except Exception as fault:  # Pillow raises SyntaxError, struct.error and others on broken files
        if isinstance(fault, OSError) and fault.errno in NOT_OF_FILES:
            raise
        raise Unreadable(f"{type(fault).__name__}: {fault}") from fault


class _Limit:
    """Pillow's own limit, while threads of this package read under theirs."""

    lock = threading.Lock()
    readers = 0
    value: int | None = None


@contextmanager
def _without_limit() -> Iterator[None]:
    """Lift Pillow's limit, a global that warns and then fails at fixed numbers of pixels, for a while."""
    with _Limit.lock:
        if not _Limit.readers:
            _Limit.value, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _Limit.readers += 1
    try:
        yield
    finally:
        with _Limit.lock:
            _Limit.readers -= 1
            if not _Limit.readers:
                Image.MAX_IMAGE_PIXELS = _Limit.value
