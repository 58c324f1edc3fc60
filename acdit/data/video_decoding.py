"""Decode videos of any frame rate and rotation to clips of square frames, and detect damaged ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from ..media.videos import upright, video_stream
from ..utils.errors import require
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
    """Raise Unreadable unless a file is a video that is long enough and has a decodable first frame."""
    with _opened(encoded) as (container, stream):
        _length_and_interval(container, stream, shape)
        if next(container.decode(stream), None) is None:
            raise Unreadable("holds no frame that can be decoded")


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
    try:
        frames = _clip_frames(encoded, shape, moment)
    except _SeekFailed:
        frames = _clip_frames(encoded, shape, moment, search=False)
    pixels = np.stack(frames).astype(np.float32)  # (F, side, side, channels)
    return torch.from_numpy(pixels).permute(3, 0, 1, 2).contiguous() / 127.5 - 1


class _SeekFailed(Exception):
    """Exception for files whose seeks all land after the requested frame: decode them from the start."""


def _clip_frames(
    encoded: bytes | str, shape: ClipShape, moment: float, search: bool = True
) -> list[np.ndarray]:
    """Return the frames of a clip, each of shape (side, side, channels)."""
    with _opened(encoded) as (container, stream):
        length, interval = _length_and_interval(container, stream, shape)
        if length < shape.span:  # repeat the video
            video_frames = [
                _square(frame, shape) for frame in _frames_at(container, stream, range(length), interval)
            ]
            return [video_frames[position * shape.stride % length] for position in range(shape.frames)]
        first = min(int(moment * (length - shape.span + 1)), length - shape.span)
        numbers = range(first, first + shape.span, shape.stride)
        return [_square(frame, shape) for frame in _frames_at(container, stream, numbers, interval, search)]


@contextmanager
def _opened(encoded: bytes | str) -> Iterator[tuple[Any, Any]]:
    """Open a video, and yield its container and its video stream."""
    av: Any = require("av", "video")
    try:
        with av.open(BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as container:
            stream = video_stream(container)
            if stream is None:
                raise Unreadable("holds no video")
            stream.thread_type = "AUTO"
            yield container, stream
    except av.EOFError as fault:
        raise Unreadable("holds no frame that can be decoded") from fault
    except (av.FFmpegError, OSError, ValueError) as fault:
        raise Unreadable(f"{type(fault).__name__}: {fault}") from fault


def _length_and_interval(container: Any, stream: Any, shape: ClipShape) -> tuple[int, float]:
    """Return the number of frames of a video at its mean rate, and the seconds between frames.

    Both come from the header of the video, or from the timestamps of its packets.
    """
    length, rate = stream.frames, stream.average_rate
    if not length or not rate:
        # the container's duration cannot be used: it may be that of the audio
        timestamps = [packet.pts for packet in container.demux(stream) if packet.size]
        length, valid = len(timestamps), [timestamp for timestamp in timestamps if timestamp is not None]
        if length > 1 and len(valid) == length:
            seconds = float((max(valid) - min(valid)) * stream.time_base)
            if not rate:  # `guessed_rate` may then be the tick rate of the clock
                rate = (length - 1) / seconds if seconds else 0
            length = round(seconds * float(rate)) + 1
        container.seek(0)
    if not length:
        raise Unreadable("holds no frame")
    if length < shape.span and shape.short == "skip":
        raise Unreadable(f"has {length} frames, but a clip spans {shape.span}")
    return length, 1 / float(rate or stream.guessed_rate or 1)


def _frames_at(
    container: Any, stream: Any, numbers: Sequence[int], interval: float, search: bool = False
) -> Iterator[Any]:
    """Yield the frames that are shown at the times of the given frame numbers at the mean rate."""
    decoded = container.decode(stream)
    shown = next(decoded, None)
    if shown is None:
        raise Unreadable("holds no frame that can be decoded")
    origin = shown.time or 0.0  # some headers give another origin
    if numbers[0] and search:
        shown, decoded = _seek(container, stream, origin, origin + numbers[0] * interval, interval)
    remaining = iter(numbers)
    number = next(remaining)
    for frame in decoded:
        starts = (frame.time or 0.0) - origin - interval / 2
        while number * interval < starts:
            yield shown
            following = next(remaining, None)
            if following is None:
                return
            number = following
        shown = frame
    ends = (shown.time or 0.0) - origin + 1.5 * interval
    while number * interval < ends:  # the last frame is shown as long as the others
        yield shown
        following = next(remaining, None)
        if following is None:
            return
        number = following
    raise Unreadable(f"ends before frame {number}, although its header announces more frames")


def _seek(
    container: Any, stream: Any, origin: float, moment: float, interval: float
) -> tuple[Any, Iterator[Any]]:
    """Return a frame that is shown at a moment or before it, and an iterator over the frames that follow.

    If a container has no index, or its groups of pictures are open, a seek may land after the requested
    moment; it is then repeated from an earlier one.
    """
    distance = 0.0
    while True:
        target = max(origin, moment - distance)
        container.seek(int(target / stream.time_base), stream=stream)
        decoded = container.decode(stream)
        first = next(decoded, None)
        if first is not None and (first.time or 0.0) - interval / 2 <= moment:
            return first, decoded
        if target == origin:
            raise _SeekFailed
        distance = 2 * distance or 1.0


def _square(frame: Any, shape: ClipShape) -> np.ndarray:
    image: Image.Image = upright(frame).convert("L" if shape.channels == 1 else "RGB")
    return np.asarray(centre_crop(image, shape.side)).reshape(shape.side, shape.side, shape.channels)
