"""Decode images of any mode and orientation to square tensors, and detect damaged ones."""

import numpy as np
import torch
from PIL import Image

from ..media.pictures import MAX_PIXELS, Unreadable, opened_picture, rgb_picture

MAX_ASPECT = 100  # maximum ratio of the sides: ADM's crop needs gigabytes for very narrow images


def check_header(encoded: bytes | str, max_pixels: int = MAX_PIXELS) -> None:
    """Raise Unreadable unless a file starts like an image of at most `max_pixels`. Few bytes are read."""
    with opened_picture(encoded, max_pixels):
        pass


def decode_image(
    encoded: bytes | str,
    side: int,
    channels: int,
    max_pixels: int = MAX_PIXELS,
    option: str = "data.max_pixels",
) -> torch.Tensor:
    """Return the centre crop of an image as (channels, side, side) float32 in [-1, 1].

    The EXIF orientation is applied, and transparent pixels are composited onto white.

    Args:
        encoded: bytes or path of the image file.
        side: height and width of the crop in pixels.
        channels: 1 for grey, 3 for colour.
        max_pixels: maximum number of pixels of the image, see `DataConfig`.
        option: name of the option that sets this maximum, for the message.

    Raises:
        Unreadable: if the file cannot be decoded.
    """
    with opened_picture(encoded, max_pixels, option) as image:
        check_aspect(*image.size)
        image = rgb_picture(image)
        image = centre_crop(image.convert("L") if channels == 1 else image, side)
        pixels = np.array(image, dtype=np.float32)
    return torch.from_numpy(pixels.reshape(side, side, channels)).permute(2, 0, 1).contiguous() / 127.5 - 1


def centre_crop(image: Image.Image, side: int) -> Image.Image:
    """Crop the central square of an image as in ADM.

    The image is halved with a box filter while it is at least twice too large, resized with a bicubic filter,
    and cropped.

    Raises:
        Unreadable: if the image is too narrow.
    """
    check_aspect(*image.size)
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def check_aspect(width: int, height: int) -> None:
    """Raise Unreadable for an image that is too narrow to crop."""
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Unreadable(f"{width}x{height} pixels is too narrow to crop")
