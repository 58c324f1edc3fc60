"""Augmentation of one image: random translation, rotation and scale, and RandAugment (arXiv 1909.13719).

Without torchvision. All draws come from the generator that is given, so that an augmented image is a
function of its key.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

STRONGEST = 10.0  # highest magnitude
GREY = 128  # value of the pixels that a geometric operation uncovers
ANGLE, SHEAR, SHIFT, ENHANCEMENT, BITS = 30.0, 0.3, 0.45, 0.9, 4  # changes at the highest magnitude


def translated(image: Tensor, most: int, source: torch.Generator) -> Tensor:
    """Return an image translated by at most `most` cells along each axis, padded with its border.

    Args:
        image: Image (C, H, W).
        most: Maximum number of cells.
        source: Source of the two draws.
    """
    if most == 0:
        return image
    down, right = torch.randint(-most, most + 1, (2,), generator=source).tolist()
    height, width = image.shape[-2:]
    bordered = pad(image, (most, most, most, most), mode="replicate")
    return bordered[:, most - down : most - down + height, most - right : most - right + width]


def rotated_and_scaled(image: Tensor, rotation: float, scaling: float, source: torch.Generator) -> Tensor:
    """Return an image rotated and scaled about its centre, padded with its border; bilinear interpolation.

    Args:
        image: Image (C, H, W).
        rotation: Maximum angle in degrees; the angle is uniform in both directions.
        scaling: Maximum relative change; the scale is uniform from `1 - scaling` to `1 + scaling`.
        source: Source of the two draws.
    """
    if rotation == 0 and scaling == 0:
        return image
    turn, growth = torch.rand(2, generator=source, dtype=torch.float64).mul(2).sub(1).tolist()
    angle, scale = math.radians(rotation * turn), 1 + scaling * growth
    height, width = image.shape[-2:]
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    # from points of the result to those of the image, whose coordinates run from -1 to 1 along both axes
    rows = [[cosine, -sine * height / width, 0.0], [sine * width / height, cosine, 0.0]]
    points = affine_grid(torch.tensor([rows], dtype=image.dtype), [1, *image.shape], align_corners=False)
    return grid_sample(image[None], points, padding_mode="border", align_corners=False)[0]


def rand_augmented(image: Tensor, count: int, magnitude: float, source: torch.Generator) -> Tensor:
    """Return an image after `count` random operations out of the 14 of RandAugment, all at one magnitude.

    The image is rounded to 8 bits for it. Operations with a direction get a random sign.

    Args:
        image: Image (C, H, W) in [-1, 1] with 1 or 3 channels.
        count: Number of operations.
        magnitude: Magnitude of the operations, 0..10.
        source: Source of the draws.
    """
    if count == 0:
        return image
    names = list(OPERATIONS)
    chosen = torch.randint(len(names), (count,), generator=source).tolist()
    signs = torch.randint(2, (count,), generator=source).mul(2).sub(1).tolist()
    picture = _to_picture(image)
    for operation, sign in zip(chosen, signs, strict=True):
        picture = OPERATIONS[names[operation]](picture, sign * magnitude / STRONGEST)
    return _to_tensor(picture)


def _to_picture(image: Tensor) -> Image.Image:
    pixels = ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _to_tensor(picture: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(picture, dtype=np.float32))
    return (pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()) / 127.5 - 1


def _moved(picture: Image.Image, coefficients: tuple[float, ...]) -> Image.Image:
    """Return a picture whose point (x, y) is that at (a x + b y + c, d x + e y + f) of the given one."""
    fill = GREY if picture.mode == "L" else (GREY,) * 3
    return picture.transform(
        picture.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=fill
    )


def _sheared_x(picture: Image.Image, strength: float) -> Image.Image:
    slope = SHEAR * strength
    return _moved(picture, (1, slope, -slope * picture.height / 2, 0, 1, 0))  # about the centre


def _sheared_y(picture: Image.Image, strength: float) -> Image.Image:
    slope = SHEAR * strength
    return _moved(picture, (1, 0, 0, slope, 1, -slope * picture.width / 2))


def _translated_x(picture: Image.Image, strength: float) -> Image.Image:
    return _moved(picture, (1, 0, SHIFT * strength * picture.width, 0, 1, 0))


def _translated_y(picture: Image.Image, strength: float) -> Image.Image:
    return _moved(picture, (1, 0, 0, 0, 1, SHIFT * strength * picture.height))


def _rotated(picture: Image.Image, strength: float) -> Image.Image:
    fill = GREY if picture.mode == "L" else (GREY,) * 3
    return picture.rotate(ANGLE * strength, Image.Resampling.BILINEAR, fillcolor=fill)


def _enhanced(enhancer: type) -> Callable[[Image.Image, float], Image.Image]:
    return lambda picture, strength: enhancer(picture).enhance(1 + ENHANCEMENT * strength)


def _posterized(picture: Image.Image, strength: float) -> Image.Image:
    return ImageOps.posterize(picture, 8 - round(BITS * abs(strength)))


def _solarized(picture: Image.Image, strength: float) -> Image.Image:
    return ImageOps.solarize(picture, round(256 * (1 - abs(strength))))


# The 14 operations of the paper (section 3.1), as functions of a picture and a strength in -1..1. The changes
# at full strength are those of AutoAugment (arXiv 1805.09501), with translations of 0.45 of the side.
OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda picture, strength: picture,
    "auto contrast": lambda picture, strength: ImageOps.autocontrast(picture),
    "equalize": lambda picture, strength: ImageOps.equalize(picture),
    "rotate": _rotated,
    "solarize": _solarized,
    "color": _enhanced(ImageEnhance.Color),  # no change to a grey picture
    "posterize": _posterized,
    "contrast": _enhanced(ImageEnhance.Contrast),
    "brightness": _enhanced(ImageEnhance.Brightness),
    "sharpness": _enhanced(ImageEnhance.Sharpness),
    "shear x": _sheared_x,
    "shear y": _sheared_y,
    "translate x": _translated_x,
    "translate y": _translated_y,
}
