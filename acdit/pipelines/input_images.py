"""Conversion of images and clips from callers, in any supported form, to one tensor."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from ..data.image_decoding import MAX_ASPECT, centre_crop
from ..media.pictures import Unreadable, check_size, rgb_picture
from ..utils.errors import UserError

ROUNDING = 1e-3  # tolerance for values outside 0..1
FORMS = {
    3: "PIL images, an array ([N,] H, W, C) or a tensor ([N,] C, H, W)",
    4: "frames: PIL images, an array ([N,] F, H, W, C) or a tensor ([N,] F, C, H, W)",
}


def given_pixels(given: Any, name: str, *, axes: int, channels: int) -> Tensor:
    """Convert images or clips to a float32 tensor (N, C, H, W) or (N, F, C, H, W) in [-1, 1].

    Args:
        given: PIL images, arrays with channels last or tensors with channels first in [0, 1]; or lists of
            them, where a list adds one axis.
        name: name of the argument, for error messages.
        axes: number of axes of one image (3) or clip (4).
        channels: number of channels that PIL images are converted to, 1 (grey) or 3.

    Raises:
        UserError: for any other input.
    """
    try:
        pixels = _tensor(given, channels)
    except Unreadable as fault:
        raise UserError(f"{name} cannot be read: {fault}") from fault
    except (IndexError, TypeError, ValueError, RuntimeError) as fault:  # no image, or several sizes
        raise UserError(f"{name} must be {FORMS[axes]}, all of one size") from fault
    if pixels.ndim not in (axes, axes + 1):
        raise UserError(f"{name} must have {axes} or {axes + 1} axes, {FORMS[axes]}, not {pixels.ndim}")
    if not pixels.numel():
        raise UserError(f"{name} must hold at least one {'frame' if axes == 4 else 'pixel'}")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise UserError(f"{name} must have values in 0..1, not {low:.4g} to {high:.4g}")
    pixels = 2 * pixels.clamp(0, 1) - 1
    return pixels if pixels.ndim > axes else pixels[None]


def square_pixels(given: Any, name: str, side: int, channels: int) -> Tensor:
    """Convert images of any size to their central squares of a given side, as training does.

    PIL images are cropped and resized by `centre_crop`. Arrays and tensors of another size are resized with
    an antialiased bicubic filter, so that the shorter side fits, and cropped.

    Args:
        given: one image or several, see `given_pixels`; the images of a list may differ in size.
        name: name of the argument, for error messages.
        side: height and width of the result in pixels.
        channels: number of channels, 1 (grey) or 3.

    Returns:
        Pixels (N, C, side, side) in [-1, 1].

    Raises:
        UserError: if an image cannot be read, or has another number of channels.
    """
    if isinstance(given, list | tuple):
        if not given:
            raise UserError(f"{name} must hold at least one image")
        return torch.cat([square_pixels(each, name, side, channels) for each in given])
    if isinstance(given, Image.Image):
        try:
            check_size(given)
            given = rgb_picture(given)
        except Unreadable as fault:
            raise UserError(f"{name} cannot be read: {fault}") from fault
        if max(given.size) > MAX_ASPECT * min(given.size):
            raise UserError(f"{name} of {given.width}x{given.height} pixels is too narrow to crop")
        given = centre_crop(given.convert("L") if channels == 1 else given, side)
    pixels = given_pixels(given, name, axes=3, channels=channels)
    height, width = pixels.shape[-2:]
    if pixels.shape[1] != channels:
        raise UserError(f"{name} must have {channels} channels, not {pixels.shape[1]}")
    if (height, width) == (side, side):
        return pixels
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise UserError(f"{name} of {width}x{height} pixels is too narrow to crop")
    scale = side / min(height, width)
    size = max(side, round(height * scale)), max(side, round(width * scale))
    resized = interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    return resized[:, :, top : top + side, left : left + side]


def _tensor(given: Any, channels: int) -> Tensor:
    """Convert an image, an array, a tensor or a list of them to a float32 tensor (.., C, H, W)."""
    if isinstance(given, Image.Image):
        check_size(given)
        image = rgb_picture(given)
        image = image.convert("L") if channels == 1 else image
        return torch.from_numpy(np.array(image)).float().div(255).view(*image.size[::-1], -1).movedim(-1, 0)
    if isinstance(given, np.ndarray):
        # torch reads no array that runs backwards, as flipped ones do, or whose bytes are in another order
        array = np.ascontiguousarray(given, dtype=given.dtype.newbyteorder("="))
        return torch.from_numpy(array).float().movedim(-1, -3)
    if isinstance(given, Tensor):
        return given.float()
    if isinstance(given, list | tuple):
        return torch.stack([_tensor(each, channels) for each in given])
    raise TypeError(f"{type(given).__name__} is no picture")
