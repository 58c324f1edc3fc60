"""Video files: write them frame by frame, read them, and arrange clips side by side."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from PIL import GifImagePlugin, Image, ImageChops

from ..utils.errors import UserError, require
from ..utils.files import whole
from .images import picture_grid
from .video_opening import VideoError
from .video_reading import VideoReader

Frames = Sequence[Image.Image]
H264_MAX_SIDE = 16_384
GIF_MAX_RATE = 50  # players show every frame for at least two hundredths of a second


class Writer(Protocol):
    """Writer of frames, in order."""

    def add(self, frame: Image.Image) -> None:
        """Add the next frame."""
        ...


@contextmanager
def video_file(path: Path, rate: int) -> Iterator[Writer]:
    """Open a video file for frames of one size; the file is written atomically.

    Args:
        path: path of an .mp4 (H.264; odd sizes grow by a pixel, since the format requires even ones) or of a
            .gif; both keep frames that equal the ones before them.
        rate: frames per second.

    Yields:
        A writer of frames.

    Raises:
        UserError: for another suffix, a rate that is no positive number or that a .gif cannot have, a size
            that H.264 cannot have, or if the package that writes the format is missing.
    """
    writers = {".mp4": _h264, ".gif": _gif}
    open_writer = writers.get(path.suffix.lower())
    if open_writer is None:
        raise UserError(f"{path} must end in {' or '.join(writers)}")
    if not 0 < rate < math.inf:  # so that NaN is refused too
        raise UserError(f"the rate must be a positive, finite number of frames per second, not {rate}")
    with whole(path) as temporary_path, open_writer(temporary_path, rate) as writer:
        yield writer


def read_frames(path: Path, max_frames: int | None = None) -> list[Image.Image]:
    """Return the first `max_frames` frames of a video file, or all of them if None, as they are displayed.

    The frames are those at the mean rate of the file, see `VideoReader`.

    Raises:
        UserError: if the file cannot be read as video.
    """
    try:
        with VideoReader(path) as video:
            return list(islice(video.every_frame(), max_frames))
    except VideoError as fault:
        raise UserError(f"{path} cannot be read as video: {fault}") from fault


def side_by_side(clips: Sequence[Frames], columns: int) -> Iterator[Image.Image]:
    """Arrange clips of one length in rows of `columns`, frame by frame; a single clip is not rearranged."""
    for frames in zip(*clips, strict=True):
        yield frames[0].convert("RGB") if len(frames) == 1 else picture_grid(list(frames), columns)


def contact_sheet(clips: Sequence[Frames]) -> Image.Image:
    """Arrange clips below each other, each as a row of its frames."""
    return picture_grid([frame for clip in clips for frame in clip], len(clips[0]))


@contextmanager
def _h264(path: Path, rate: int) -> Iterator[Writer]:
    av: Any = require("av", "video")
    try:
        # opened by Python, since FFmpeg would take a path with a colon for a URL
        with path.open("wb") as file, av.open(file, "w", format="mp4") as container:
            writer = _H264(av, container, rate)
            yield writer
            writer.finish()
    except av.FFmpegError as error:
        raise UserError(f"the .mp4 cannot be written: {error}") from error


class _H264:
    def __init__(self, av: Any, container: Any, rate: int):
        self.av, self.container = av, container
        self.stream = container.add_stream("libx264", rate=Fraction(rate))
        self.stream.pix_fmt = "yuv420p"  # every player supports it
        self.stream.options = {"crf": "12"}
        self.sized = False

    def add(self, frame: Image.Image) -> None:
        pixels = np.asarray(frame.convert("RGB"))
        padding = [(0, side % 2) for side in pixels.shape[:2]]
        pixels = np.pad(pixels, (*padding, (0, 0)), mode="edge")
        if not self.sized:
            if max(pixels.shape[:2]) > H264_MAX_SIDE:
                raise UserError(
                    f"a frame of {pixels.shape[0]}x{pixels.shape[1]} exceeds the {H264_MAX_SIDE} pixels per "
                    "side that H.264 allows; put fewer videos side by side"
                )
            self.stream.height, self.stream.width = pixels.shape[:2]
            self.sized = True
        self.container.mux(self.stream.encode(self.av.VideoFrame.from_ndarray(pixels, format="rgb24")))

    def finish(self) -> None:
        if not self.sized:
            raise UserError("a video needs at least one frame")
        self.container.mux(self.stream.encode())


@contextmanager
def _gif(path: Path, rate: int) -> Iterator[Writer]:
    if rate > GIF_MAX_RATE:
        raise UserError(
            f"a .gif shows at most {GIF_MAX_RATE} frames a second, not {rate}; write an .mp4 instead"
        )
    with path.open("wb") as file:
        writer = _Gif(file, rate)
        yield writer
        writer.finish()


class _Gif:
    """Writer of a GIF, frame by frame; `Image.save` would merge equal frames."""

    def __init__(self, file: BinaryIO, rate: int) -> None:
        self.file, self.rate, self.count = file, rate, 0
        self.previous: Image.Image | None = None

    def add(self, frame: Image.Image) -> None:
        indexed = frame.convert("RGB").quantize(256)
        displayed, box = indexed.convert("RGB"), None
        if self.previous is None:
            header, _ = GifImagePlugin.getheader(indexed, info={"loop": 0})
            self.file.writelines(header)
        else:  # only the part that changes; at least one pixel, so that equal frames are frames too
            box = ImageChops.difference(displayed, self.previous).getbbox() or (0, 0, 1, 1)
            indexed = indexed.crop(box)
        before, after = (round(100 * index / self.rate) for index in (self.count, self.count + 1))
        milliseconds = 10 * (after - before)  # GIF counts hundredths of a second
        self.file.writelines(
            GifImagePlugin.getdata(
                indexed, box[:2] if box else (0, 0), duration=milliseconds, include_color_table=True
            )
        )
        self.previous, self.count = displayed, self.count + 1

    def finish(self) -> None:
        if not self.count:
            raise UserError("a video needs at least one frame")
        self.file.write(b";")
