"""Moving digits: clips of a real handwritten digit that bounces in a square, with the digit as class."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import torch
from torch.nn.functional import interpolate

from ..utils.randomness import generator
from .dataset import PixelDataset
from .digits import LABEL_NAMES, digit_images

STRIDE = 389  # step between the digits of consecutive clips, since MNIST is sorted by class


@dataclass(frozen=True)
class Scene:
    """Square in which digits move.

    Attributes:
        name: name of the data set, as `data.source`.
        digits: source of the digits, see `digit_images`.
        margin: width of the padding of these digits, which is cut off.
        digit: side of the digit in pixels, to which it is scaled.
        side: side of a frame in pixels.
        speeds: least and greatest speed in pixels per frame.
        paths: number of clips of each training digit; each held-out digit has one clip.
    """

    name: str
    digits: str
    margin: int
    digit: int
    side: int
    speeds: tuple[int, int]
    paths: int

    @property
    def reach(self) -> int:
        """Return the greatest coordinate of a digit's top left corner, along each axis."""
        return self.side - self.digit

    @cached_property
    def velocities(self) -> tuple[tuple[int, int], ...]:
        """Return all velocities (rows, columns) in pixels per frame."""
        slowest, fastest = self.speeds
        return tuple(
            (rows, columns)
            for rows, columns in product(range(-fastest, fastest + 1), repeat=2)
            if slowest**2 <= rows**2 + columns**2 <= fastest**2
        )


LARGE = Scene("moving-digits", "mnist", 2, 16, 32, (2, 4), 25)
SMALL = Scene("moving-digits-small", "digits", 0, 8, 16, (1, 2), 25)
SCENES = {scene.name: scene for scene in (LARGE, SMALL)}


def scene_of(shape: tuple[int, ...]) -> Scene | None:
    """Return the scene whose grey frames have the shape (C, H, W); None if there is none."""
    return next((scene for scene in SCENES.values() if (1, scene.side, scene.side) == tuple(shape)), None)


class Motion(NamedTuple):
    """Start of a digit's top left corner (row, column) and its velocity in pixels per frame, as integers."""

    start: tuple[int, int]
    velocity: tuple[int, int]
    reach: int
    """Greatest coordinate of the corner, at which the digit is reflected."""

    def corners(self, frames: int) -> torch.Tensor:
        """Return the corner in every frame, (F, 2), reflected at the borders."""
        straight = self.straight(frames) % (2 * self.reach)
        return self.reach - (straight - self.reach).abs()

    def straight(self, frames: int) -> torch.Tensor:
        """Return the corner in every frame, (F, 2), as if there were no borders."""
        start, velocity = torch.tensor(self.start), torch.tensor(self.velocity)
        return start + torch.arange(frames)[:, None] * velocity


@dataclass(frozen=True)
class Clip:
    """Content of a clip: a digit and its motion."""

    digit: int
    """Index of the digit within its part, training or held-out."""
    motion: Motion


class MovingDigits(PixelDataset):
    """Data set of clips (1, F, H, W) of digits that move by whole pixels and bounce.

    The clips are always the same. A digit that meets no border continues exactly as it began.

    Args:
        frames: number of frames of a clip.
        held_out: whether to use the held-out digits, which training never sees, with one clip each, instead
            of the training digits with several clips each.
        scene: digits, frames and speeds: MNIST digits of 16x16 pixels in 32x32, which move 2 to 4 pixels per
            frame, or `SMALL`, digits of 8x8 in 16x16, which move 1 to 2 pixels per frame.
    """

    channels = 1

    def __init__(self, frames: int, *, held_out: bool = False, scene: Scene = LARGE) -> None:
        digits, labels = digit_images(scene.digits, held_out=held_out)
        height, width = digits.shape[2:]
        sprites = digits[:, :, scene.margin : height - scene.margin, scene.margin : width - scene.margin]
        if sprites.shape[2] != scene.digit:
            sprites = interpolate(sprites, (scene.digit, scene.digit), mode="bilinear", antialias=True)
        self.scene, self.sprites = scene, sprites.squeeze(1).clamp(-1, 1)  # (N, digit, digit)
        self.size, self.held_out = (frames, scene.side, scene.side), held_out
        count = len(labels) * (1 if held_out else scene.paths)
        self.labels = labels[torch.arange(count) * STRIDE % len(labels)]
        self.label_names = LABEL_NAMES

    def clip(self, index: int) -> Clip:
        """Return the content of a clip."""
        scene = self.scene
        source = generator("moving digits", "held out" if self.held_out else "training", index)
        row, column = torch.randint(scene.reach + 1, (2,), generator=source).tolist()
        velocity = scene.velocities[int(torch.randint(len(scene.velocities), (), generator=source))]
        return Clip(index * STRIDE % len(self.sprites), Motion((row, column), velocity, scene.reach))

    def decode(self, index: int) -> torch.Tensor:
        """Return the frames of a clip, (1, F, H, W)."""
        clip = self.clip(index)
        return self.render(clip.digit, clip.motion.corners(self.size[0]))

    def render(self, digit: int, corners: torch.Tensor) -> torch.Tensor:
        """Render a digit at corners (F, 2) on black, clipped to the frame: (1, F, H, W)."""
        width, side = self.scene.digit, self.scene.side
        padding = width  # on every side, for corners outside the frame
        frames = torch.full((1, len(corners), side + 2 * padding, side + 2 * padding), -1.0)
        for frame, (row, column) in zip(frames[0], corners.clamp(-width, side).tolist(), strict=True):
            place = (
                slice(row + padding, row + padding + width),
                slice(column + padding, column + padding + width),
            )
            frame[place] = self.sprites[digit]
        return frames[:, :, padding:-padding, padding:-padding].contiguous()
