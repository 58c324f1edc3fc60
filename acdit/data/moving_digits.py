"""Moving digits: a real handwritten digit that bounces in a square, with the digit as its class."""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from torch.nn.functional import interpolate

from ..utils.randomness import generator
from .dataset import PixelDataset
from .digits import LABEL_NAMES, digit_images

EDGE = 32  # of a frame, in pixels
DIGIT = 16  # edge of the digit in it
REACH = EDGE - DIGIT  # the digit's top left corner lies at 0..REACH along each axis
MARGIN = 2  # of the padding that `digit_images` adds to MNIST
SPEEDS = (2, 4)  # pixels a frame, the least and the most
PATHS = 25  # clips of every digit to learn from; of held-out ones there is one each
STRIDE = 389  # from one clip's digit to the next one's: MNIST lies sorted by class


class Motion(NamedTuple):
    """Where a digit's top left corner (row, column) starts, and its pixels a frame, all whole numbers."""

    start: tuple[int, int]
    velocity: tuple[int, int]

    def corners(self, frames: int) -> torch.Tensor:
        """The corner in every frame, (F, 2): it turns round at the edges as light at a mirror."""
        straight = self.straight(frames) % (2 * REACH)
        return REACH - (straight - REACH).abs()

    def straight(self, frames: int) -> torch.Tensor:
        """Where the corner would be without edges, (F, 2)."""
        start, velocity = torch.tensor(self.start), torch.tensor(self.velocity)
        return start + torch.arange(frames)[:, None] * velocity


VELOCITIES = tuple(
    (rows, columns)
    for rows, columns in product(range(-SPEEDS[1], SPEEDS[1] + 1), repeat=2)
    if SPEEDS[0] ** 2 <= rows**2 + columns**2 <= SPEEDS[1] ** 2
)


@dataclass(frozen=True)
class Clip:
    """What a clip shows."""

    digit: int
    """Place of the digit among those of its part."""
    motion: Motion


class MovingDigits(PixelDataset):
    """Clips (1, F, 32, 32): MNIST's digits scaled to 16x16, each at 2 to 4 pixels a frame, always the same.

    Whole pixels a frame, so that a clip that meets no edge goes on exactly as it began.

    Args:
        frames: of a clip.
        held_out: one clip of each digit that training never sees, in place of 25 of each other one.
    """

    channels = 1

    def __init__(self, frames: int, *, held_out: bool = False) -> None:
        digits, labels = digit_images("mnist", held_out=held_out)
        inner = digits[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
        sprites = interpolate(inner, (DIGIT, DIGIT), mode="bilinear", antialias=True)
        self.sprites = sprites.squeeze(1).clamp(-1, 1)  # (N, 16, 16)
        self.size, self.held_out = (frames, EDGE, EDGE), held_out
        count = len(labels) * (1 if held_out else PATHS)
        self.labels = labels[torch.arange(count) * STRIDE % len(labels)]
        self.label_names = LABEL_NAMES

    def clip(self, index: int) -> Clip:
        """What a clip shows."""
        drawn = generator("moving digits", "held out" if self.held_out else "training", index)
        row, column = torch.randint(REACH + 1, (2,), generator=drawn).tolist()
        velocity = VELOCITIES[int(torch.randint(len(VELOCITIES), (), generator=drawn))]
        return Clip(index * STRIDE % len(self.sprites), Motion((row, column), velocity))

    def decode(self, index: int) -> torch.Tensor:
        clip = self.clip(index)
        return render(self.sprites[clip.digit], clip.motion.corners(self.size[0]))


def render(sprite: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
    """A digit (16, 16) at corners (F, 2) on black, parts outside left out: (1, F, 32, 32)."""
    room = DIGIT  # on every side, for corners outside
    frames = torch.full((1, len(corners), EDGE + 2 * room, EDGE + 2 * room), -1.0)
    for frame, (row, column) in zip(frames[0], corners.clamp(-DIGIT, EDGE).tolist(), strict=True):
        frame[row + room : row + room + DIGIT, column + room : column + room + DIGIT] = sprite
    return frames[:, :, room:-room, room:-room].contiguous()
