"""From an encoded video to a clip of square frames, whatever its rate, rotation or damage."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from ..errors import require
from ..videos import upright
from .decode import Unreadable, centre_crop

MICROSECONDS = 1_000_000  # of a second, in which a container counts
SUFFIXES = frozenset((".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"))


@dataclass(frozen=True)
class ClipShape:
    """What a clip is cut to.

    Attributes:
        frames: of a clip.
        stride: frames of the video from one of the clip to the next, counted at its mean rate.
        short: what becomes of a video that is too short: it is repeated, or left out.
        edge, channels: of a frame.
    """

    frames: int
    stride: int
    short: Literal["loop", "skip"]
    edge: int
    channels: int

    @property
    def span(self) -> int:
        """Frames of a video that a clip reaches over."""
        return (self.frames - 1) * self.stride + 1


def check_video(encoded: bytes | str, shape: ClipShape) -> None:
    """Raise Unreadable unless the file is a video, long enough, whose first frame can be decoded."""
    with _opened(encoded) as (container, stream):
        _length(container, stream, shape)
        if next(container.decode(stream), None) is None:
            raise Unreadable("holds no frame that can be decoded")


def decode_clip(encoded: bytes | str, shape: ClipShape, moment: float) -> torch.Tensor:
    """A clip of a video file, or of its bytes: (channels, F, edge, edge) float32 in [-1, 1].

    Frames are taken by the time at which they are shown, so that a rate that varies does no harm.

    Args:
        encoded: the file.
        shape: of the clip.
        moment: where it begins, from 0 for as early as possible to 1 for as late.

    Raises:
        Unreadable: if it cannot be decoded so far.
    """
    with _opened(encoded) as (container, stream):
        length = _length(container, stream, shape)
        if length < shape.span:
            every = [_square(frame, shape) for frame in container.decode(stream)]
            if not every:
                raise Unreadable("holds no frame that can be decoded")
            chosen = [every[place * shape.stride % len(every)] for place in range(shape.frames)]
        else:
            first = min(int(moment * (length - shape.span + 1)), length - shape.span)
            places = [first + place * shape.stride for place in range(shape.frames)]
            chosen = [_square(frame, shape) for frame in _frames_at(container, stream, places)]
    pixels = np.stack(chosen).astype(np.float32)  # (F, edge, edge, channels)
    return torch.from_numpy(pixels).permute(3, 0, 1, 2).contiguous() / 127.5 - 1


@contextmanager
def _opened(encoded: bytes | str) -> Iterator[tuple[Any, Any]]:
    """The file and its stream of video."""
    av: Any = require("av", "video")
    try:
        with av.open(BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as container:
            if not container.streams.video:
                raise Unreadable("holds no video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except av.EOFError as fault:
        raise Unreadable("holds no frame that can be decoded") from fault
    except (av.FFmpegError, OSError, ValueError) as fault:
        raise Unreadable(f"{type(fault).__name__}: {fault}") from fault


def _length(container: Any, stream: Any, shape: ClipShape) -> int:
    """Frames of a video: as its header says, or counted."""
    length = stream.frames
    if not length and container.duration and stream.average_rate:
        length = round(container.duration / MICROSECONDS * stream.average_rate)
    if not length:
        length = sum(packet.size > 0 for packet in container.demux(stream))
        container.seek(0)
    if not length:
        raise Unreadable("holds no frame")
    if length < shape.span and shape.short == "skip":
        raise Unreadable(f"has {length} frames, and a clip reaches over {shape.span}")
    return length


def _frames_at(container: Any, stream: Any, places: list[int]) -> Iterator[Any]:
    """The frames that are shown when those of these numbers would be at the video's mean rate."""
    interval = 1 / float(stream.average_rate or stream.guessed_rate)
    origin = float((stream.start_time or 0) * stream.time_base)
    if places[0]:
        container.seek(int((origin + places[0] * interval) / stream.time_base), stream=stream)
    wanted = iter(places)
    place = next(wanted)
    shown = None
    for frame in container.decode(stream):
        starts = (frame.time or 0.0) - origin - interval / 2
        while shown is not None and place * interval < starts:
            yield shown
            following = next(wanted, None)
            if following is None:
                return
            place = following
        shown = frame
    ends = 0.0 if shown is None else (shown.time or 0.0) - origin + 1.5 * interval
    while shown is not None and place * interval < ends:  # the last frame is shown for as long as others
        yield shown
        following = next(wanted, None)
        if following is None:
            return
        place = following
    raise Unreadable(f"ends before frame {place}, though its header says otherwise")


def _square(frame: Any, shape: ClipShape) -> np.ndarray:
    image: Image.Image = upright(frame).convert("L" if shape.channels == 1 else "RGB")
    return np.asarray(centre_crop(image, shape.edge)).reshape(shape.edge, shape.edge, shape.channels)
