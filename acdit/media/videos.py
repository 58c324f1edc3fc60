"""Video files: write them frame by frame, read them, and arrange clips side by side."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..utils.errors import UserError, require
from ..utils.files import whole
from .images import picture_grid
from .pictures import rgb_picture

Frames = Sequence[Image.Image]
H264_MAX_SIDE = 16_384
STILL_FORMATS = ("image2", "tty")  # formats of FFmpeg that are not video, besides its "pipes" of pictures
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
            .gif, whose frames are kept in memory until the end.
        rate: frames per second.

    Yields:
        A writer of frames.

    Raises:
        UserError: for another suffix, a rate that a .gif cannot have, a size that H.264 cannot have, or if
            the package that writes the format is missing.
    """
    writers = {".mp4": _h264, ".gif": _gif}
    open_writer = writers.get(path.suffix.lower())
    if open_writer is None:
        raise UserError(f"{path} must end in {' or '.join(writers)}")
    with whole(path) as temporary_path, open_writer(temporary_path, rate) as writer:
        yield writer


def read_frames(path: Path, max_frames: int | None = None) -> list[Image.Image]:
    """Return the first `max_frames` frames of a video file, or all of them if None, upright.

    Raises:
        UserError: if the file cannot be read as video.
    """
    av: Any = require("av", "video")
    try:
        with av.open(str(path)) as container:
            stream = video_stream(container)
            if stream is None:
                raise UserError(f"{path} holds no video")
            frames = [upright(frame) for frame in islice(container.decode(stream), max_frames)]
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path} cannot be read as video: {error}") from error
    if not frames:
        raise UserError(f"{path} holds no frame that can be decoded")
    return frames


def video_stream(container: Any) -> Any | None:
    """Return the video stream of an opened file, or None if it has none.

    FFmpeg also treats a still picture, the cover of a song and even text, which it renders, as video; these
    do not count.
    """
    av: Any = require("av", "video")
    name = container.format.name
    if name in STILL_FORMATS or name.endswith("_pipe"):
        return None
    cover = av.stream.Disposition.attached_pic
    return next((stream for stream in container.streams.video if not stream.disposition & cover), None)


def upright(frame: Any) -> Image.Image:
    """Convert a decoded frame to an RGB picture, rotated by its display matrix; see `rgb_picture`."""
    pixel_format = frame.format
    if pixel_format.has_palette or any(component.is_alpha for component in pixel_format.components):
        picture = rgb_picture(Image.fromarray(frame.to_ndarray(format="rgba"), "RGBA"))
    else:
        picture = frame.to_image()
    return picture.rotate(frame.rotation, expand=True)


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
        with av.open(str(path), "w", format="mp4") as container:
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
    writer = _Gif()
    yield writer
    first, *others = writer.frames or [None]
    if first is None:
        raise UserError("a video needs at least one frame")
    ends = [round(100 * index / rate) for index in range(len(writer.frames) + 1)]  # GIF counts hundredths
    durations = [10 * (after - before) for before, after in pairwise(ends)]
    first.save(path, "GIF", save_all=True, append_images=others, duration=durations, loop=0)


class _Gif:
    def __init__(self) -> None:
        self.frames: list[Image.Image] = []

    def add(self, frame: Image.Image) -> None:
        self.frames.append(frame.convert("RGB").quantize(256))
