"""Decode videos of any frame rate and rotation to clips of square frames, and detect damaged ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image

from ..media.video_opening import VideoError
from ..media.video_reading import VideoReader
from .image_decoding import Unreadable, centre_crop


@dataclass(frozen=True)
class ClipShape:
    """Shape of a clip, and how it is taken from a video.

    Attributes:
        frames: number of frames of a clip.
        stride: distance between consecutive frames of a clip, in frames of the video at its mean rate.
        short: treatment of a video that is too short: `loop` repeats it, `skip` leaves it out.
        side: height and width of a frame in pixels.
        channels: number of channels of a frame.
    """

    frames: int
    stride: int
    short: Literal["loop", "skip"]
    side: int
    channels: int

    @property
    def span(self) -> int:
        """Return the number of video frames that a clip spans."""
        return (self.frames - 1) * self.stride + 1


def check_video(encoded: bytes | str, shape: ClipShape) -> None:
    """Raise Unreadable unless a file is a video with a decodable first frame that holds its earliest clip."""
    with _opened(encoded, shape) as video:
        if not video.reaches(min(video.length, shape.span)):
            raise Unreadable("ends before its first clip does, although its header announces more frames")


def decode_clip(encoded: bytes | str, shape: ClipShape, moment: float) -> torch.Tensor:
    """Return a clip of a video as (channels, F, side, side) float32 in [-1, 1].

    Frames are selected by the time at which they are shown, so that the frame rate may vary.

    Args:
        encoded: bytes or path of the video file.
        shape: shape of the clip.
        moment: start of the clip, from 0 (as early as possible) to 1 (as late as possible).

    Raises:
        Unreadable: if the video cannot be decoded up to the end of the clip.
    """
    with _opened(encoded, shape) as video:
        length = video.length
        if length < shape.span:  # repeat the video
            video_frames = [_square(image, shape) for image in video.frames(range(length))]
            frames = [video_frames[position * shape.stride % length] for position in range(shape.frames)]
        else:
            first = min(int(moment * (length - shape.span + 1)), length - shape.span)
            numbers = range(first, first + shape.span, shape.stride)
            frames = [_square(image, shape) for image in video.frames(numbers)]
    pixels = np.stack(frames).astype(np.float32)  # (F, side, side, channels)
    return torch.from_numpy(pixels).permute(3, 0, 1, 2).contiguous() / 127.5 - 1


@contextmanager
def _opened(encoded: bytes | str, shape: ClipShape) -> Iterator[VideoReader]:
    """Open a video, and check that it is not a picture and is long enough."""
    try:
        with VideoReader(encoded) as video:
            if video.stored == 1:
                raise Unreadable("holds no video but a picture: it shows one frame")
            if video.length < shape.span and shape.short == "skip":
                raise Unreadable(f"has {video.length} frames, but a clip spans {shape.span}")
            yield video
    except VideoError as fault:
        raise Unreadable(str(fault)) from fault


def _square(image: Image.Image, shape: ClipShape) -> np.ndarray:
    image = image.convert("L" if shape.channels == 1 else "RGB")
    return np.asarray(centre_crop(image, shape.side)).reshape(shape.side, shape.side, shape.channels)
