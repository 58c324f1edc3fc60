"""Moving digits: clips of a real handwritten digit that bounces in a square, with the digit as class."""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from torch.nn.functional import interpolate

from ..utils.randomness import generator
from .dataset import PixelDataset
from .digits import LABEL_NAMES, digit_images

NAME = "moving-digits"  # as `data.source`
FRAME_SIDE = 32  # side of a frame in pixels
DIGIT = 16  # side of the digit in pixels
REACH = FRAME_SIDE - DIGIT  # the digit's top left corner is at 0..REACH along each axis
MARGIN = 2  # width of the padding that `digit_images` adds to MNIST
SPEEDS = (2, 4)  # least and greatest speed in pixels per frame
PATHS = 25  # number of clips of each training digit; each held-out digit has one clip
STRIDE = 389  # step between the digits of consecutive clips, since MNIST is sorted by class


class Motion(NamedTuple):
    """Start of a digit's top left corner (row, column) and its velocity in pixels per frame, as integers."""

    start: tuple[int, int]
    velocity: tuple[int, int]

    def corners(self, frames: int) -> torch.Tensor:
        """Return the corner in every frame, (F, 2), reflected at the borders."""
        straight = self.straight(frames) % (2 * REACH)
        return REACH - (straight - REACH).abs()

    def straight(self, frames: int) -> torch.Tensor:
        """Return the corner in every frame, (F, 2), as if there were no borders."""
        start, velocity = torch.tensor(self.start), torch.tensor(self.velocity)
        return start + torch.arange(frames)[:, None] * velocity


VELOCITIES = tuple(
    (rows, columns)
    for rows, columns in product(range(-SPEEDS[1], SPEEDS[1] + 1), repeat=2)
    if SPEEDS[0] ** 2 <= rows**2 + columns**2 <= SPEEDS[1] ** 2
)


@dataclass(frozen=True)
class Clip:
    """Content of a clip: a digit and its motion."""

    digit: int
    """Index of the digit within its part, training or held-out."""
    motion: Motion


class MovingDigits(PixelDataset):
    """Data set of clips (1, F, 32, 32) of MNIST digits, scaled to 16x16, which move 2 to 4 pixels per frame.

    The clips are always the same. Digits move by whole pixels per frame, so that a digit that meets no border
    continues exactly as it began.

    Args:
        frames: number of frames of a clip.
        held_out: whether to use the held-out digits, which training never sees, with one clip each, instead
            of the training digits with 25 clips each.
    """

    channels = 1

    def __init__(self, frames: int, *, held_out: bool = False) -> None:
        digits, labels = digit_images("mnist", held_out=held_out)
        inner = digits[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
        sprites = interpolate(inner, (DIGIT, DIGIT), mode="bilinear", antialias=True)
        self.sprites = sprites.squeeze(1).clamp(-1, 1)  # (N, 16, 16)
        self.size, self.held_out = (frames, FRAME_SIDE, FRAME_SIDE), held_out
        count = len(labels) * (1 if held_out else PATHS)
        self.labels = labels[torch.arange(count) * STRIDE % len(labels)]
        self.label_names = LABEL_NAMES

    def clip(self, index: int) -> Clip:
        """Return the content of a clip."""
        source = generator("moving digits", "held out" if self.held_out else "training", index)
        row, column = torch.randint(REACH + 1, (2,), generator=source).tolist()
        velocity = VELOCITIES[int(torch.randint(len(VELOCITIES), (), generator=source))]
        return Clip(index * STRIDE % len(self.sprites), Motion((row, column), velocity))

    def decode(self, index: int) -> torch.Tensor:
        """Return the frames of a clip, (1, F, 32, 32)."""
        clip = self.clip(index)
        return render(self.sprites[clip.digit], clip.motion.corners(self.size[0]))


def render(sprite: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
    """Render a digit (16, 16) at corners (F, 2) on black, clipped to the frame: (1, F, 32, 32)."""
    padding = DIGIT  # padding on every side, for corners outside the frame
    frames = torch.full((1, len(corners), FRAME_SIDE + 2 * padding, FRAME_SIDE + 2 * padding), -1.0)
    for frame, (row, column) in zip(frames[0], corners.clamp(-DIGIT, FRAME_SIDE).tolist(), strict=True):
        frame[row + padding : row + padding + DIGIT, column + padding : column + padding + DIGIT] = sprite
    return frames[:, :, padding:-padding, padding:-padding].contiguous()
