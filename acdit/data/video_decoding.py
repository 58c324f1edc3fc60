"""From an encoded video to a clip of square frames, whatever its rate, rotation or damage."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from ..media.videos import moving_pictures, upright
from ..utils.errors import require
from .image_decoding import Unreadable, centre_crop

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
        _extent(container, stream, shape)
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
    try:
        chosen = _chosen(encoded, shape, moment)
    except _NotFound:
        chosen = _chosen(encoded, shape, moment, search=False)
    pixels = np.stack(chosen).astype(np.float32)  # (F, edge, edge, channels)
    return torch.from_numpy(pixels).permute(3, 0, 1, 2).contiguous() / 127.5 - 1


class _NotFound(Exception):
    """Every search in a file lands behind what is asked for: it must be decoded from its beginning."""


def _chosen(encoded: bytes | str, shape: ClipShape, moment: float, search: bool = True) -> list[np.ndarray]:
    """The frames of a clip."""
    with _opened(encoded) as (container, stream):
        length, interval = _extent(container, stream, shape)
        if length < shape.span:  # over again
            every = [
                _square(frame, shape) for frame in _frames_at(container, stream, range(length), interval)
            ]
            return [every[place * shape.stride % length] for place in range(shape.frames)]
        first = min(int(moment * (length - shape.span + 1)), length - shape.span)
        places = range(first, first + shape.span, shape.stride)
        return [_square(frame, shape) for frame in _frames_at(container, stream, places, interval, search)]


@contextmanager
def _opened(encoded: bytes | str) -> Iterator[tuple[Any, Any]]:
    """The file and its stream of video."""
    av: Any = require("av", "video")
    try:
        with av.open(BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as container:
            stream = moving_pictures(container)
            if stream is None:
                raise Unreadable("holds no video")
            stream.thread_type = "AUTO"
            yield container, stream
    except av.EOFError as fault:
        raise Unreadable("holds no frame that can be decoded") from fault
    except (av.FFmpegError, OSError, ValueError) as fault:
        raise Unreadable(f"{type(fault).__name__}: {fault}") from fault


def _extent(container: Any, stream: Any, shape: ClipShape) -> tuple[int, float]:
    """Frames of a video at its mean rate, and seconds from one to the next.

    As its header says, or by the times of its packets.
    """
    length, rate = stream.frames, stream.average_rate
    if not length or not rate:
        # the container's duration is no help: it may be that of the sound
        shown = [packet.pts for packet in container.demux(stream) if packet.size]
        length, known = len(shown), [moment for moment in shown if moment is not None]
        if length > 1 and len(known) == length:
            seconds = float((max(known) - min(known)) * stream.time_base)
            if not rate:  # what is guessed then may be the ticks of its clock
                rate = (length - 1) / seconds if seconds else 0
            length = round(seconds * float(rate)) + 1
        container.seek(0)
    if not length:
        raise Unreadable("holds no frame")
    if length < shape.span and shape.short == "skip":
        raise Unreadable(f"has {length} frames, and a clip reaches over {shape.span}")
    return length, 1 / float(rate or stream.guessed_rate or 1)


def _frames_at(
    container: Any, stream: Any, places: Sequence[int], interval: float, search: bool = False
) -> Iterator[Any]:
    """The frames that are shown when those of these numbers would be at the video's mean rate."""
    decoded = container.decode(stream)
    shown = next(decoded, None)
    if shown is None:
        raise Unreadable("holds no frame that can be decoded")
    origin = shown.time or 0.0  # some headers say another one
    if places[0] and search:
        shown, decoded = _sought(container, stream, origin, origin + places[0] * interval, interval)
    wanted = iter(places)
    place = next(wanted)
    for frame in decoded:
        starts = (frame.time or 0.0) - origin - interval / 2
        while place * interval < starts:
            yield shown
            following = next(wanted, None)
            if following is None:
                return
            place = following
        shown = frame
    ends = (shown.time or 0.0) - origin + 1.5 * interval
    while place * interval < ends:  # the last frame is shown for as long as others
        yield shown
        following = next(wanted, None)
        if following is None:
            return
        place = following
    raise Unreadable(f"ends before frame {place}, though its header says otherwise")


def _sought(
    container: Any, stream: Any, origin: float, moment: float, interval: float
) -> tuple[Any, Iterator[Any]]:
    """A frame that is shown at a moment or before it, and those that follow.

    Where a container has no index, or its groups of frames are open, a search may land behind what was asked
    for: then it starts earlier.
    """
    back = 0.0
    while True:
        goal = max(origin, moment - back)
        container.seek(int(goal / stream.time_base), stream=stream)
        decoded = container.decode(stream)
        first = next(decoded, None)
        if first is not None and (first.time or 0.0) - interval / 2 <= moment:
            return first, decoded
        if goal == origin:
            raise _NotFound
        back = 2 * back or 1.0


def _square(frame: Any, shape: ClipShape) -> np.ndarray:
    image: Image.Image = upright(frame).convert("L" if shape.channels == 1 else "RGB")
    return np.asarray(centre_crop(image, shape.edge)).reshape(shape.edge, shape.edge, shape.channels)
