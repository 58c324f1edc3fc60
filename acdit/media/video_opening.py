"""Open video files safely, and convert their frames to pictures in the geometry of the display."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image

from ..utils.errors import require
from .pictures import rgb_picture

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

# A path is opened by Python, since FFmpeg would take `a:b.mp4` for a URL and obey `concat:a|b`. An empty
# protocol is the only one allowed, so that a playlist can name other files and addresses, but not open them.
CONTAINER_OPTIONS = {"protocol_whitelist": "none"}
STILL_FORMATS = ("image2", "tty")  # formats of FFmpeg that are not video, besides its "pipes" of pictures
MAX_STRETCH = 100  # maximum ratio of the sides of a frame whose pixels are not square


class VideoError(Exception):
    """Exception for a file that cannot be read as video; its message is the reason."""


def video_stream(container: "InputContainer") -> "VideoStream | None":
    """Return the video stream of an opened file, or None if it has none.

    FFmpeg also treats a still picture, the cover of a song and even text, which it renders, as video; these
    do not count. An animated AVIF has its first picture as another stream.
    """
    av: Any = require("av", "video")
    name = container.format.name
    if name in STILL_FORMATS or name.endswith("_pipe"):
        return None
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    return next((stream for stream in streams if stream.frames != 1), streams[0] if streams else None)


def upright(
    frame: "VideoFrame", sample_aspect: Fraction | None = None, max_pixels: int | None = None
) -> Image.Image:
    """Convert a decoded frame to an RGB picture as it is displayed; see also `rgb_picture`.

    Args:
        frame: decoded frame, which is rotated by its display matrix.
        sample_aspect: width of a pixel divided by its height; the shorter side of the pixels is stretched.
        max_pixels: maximum number of pixels of the stretched frame, checked before it is made; None = any.

    Raises:
        VideoError: if the stretched frame is too narrow, or has more pixels.
    """
    width, height = frame.width, frame.height
    if sample_aspect is not None and sample_aspect > 0:
        width = max(width, round(width * sample_aspect))
        height = max(height, round(height / sample_aspect))
    is_stretched = (width, height) != (frame.width, frame.height)
    if is_stretched and max(width, height) > MAX_STRETCH * min(width, height):
        raise VideoError(f"{width}x{height} pixels is too narrow")
    _check_pixels(width, height, max_pixels)
    pixel_format = frame.format
    if pixel_format.has_palette or any(component.is_alpha for component in pixel_format.components):
        image = rgb_picture(Image.fromarray(frame.to_ndarray(format="rgba"), "RGBA"))
    else:
        image = frame.to_image()
    if is_stretched:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return image.rotate(frame.rotation, expand=True)


@contextmanager
def opened_video(
    source: bytes | str | Path, max_pixels: int | None = None
) -> "Iterator[tuple[InputContainer, VideoStream]]":
    """Open a video at its start, and yield its container and its video stream.

    Args:
        source: bytes or path of the video file.
        max_pixels: maximum number of pixels of a frame, which the decoder refuses to exceed; None = FFmpeg's.

    Raises:
        VideoError: if the file is no video, or its frames have more pixels.
    """
    av: Any = require("av", "video")
    limit = {} if max_pixels is None else {"max_pixels": str(max_pixels)}
    with (
        video_errors(),
        _binary(source) as file,
        av.open(file, options=limit, container_options=CONTAINER_OPTIONS) as container,
    ):
        stream = video_stream(container)
        if stream is None:
            raise VideoError("holds no video")
        if stream.codec_context is None:  # of a damaged file, or of a newer format
            raise VideoError("holds video that cannot be decoded: its codec is not known")
        _check_pixels(stream.codec_context.width, stream.codec_context.height, max_pixels)
        # The options of `av.open` reach the container and the decoders that probe it, but not this one, which
        # would follow frames that grow on the way.
        stream.codec_context.options = limit
        stream.thread_type = "AUTO"
        yield container, stream


def _check_pixels(width: int, height: int, max_pixels: int | None) -> None:
    if max_pixels is not None and width * height > max_pixels:
        raise VideoError(f"has frames of {width:,}x{height:,} pixels, more than {max_pixels:,}")


@contextmanager
def _binary(source: bytes | str | Path) -> Iterator[BinaryIO]:
    """Open a file under a name that is only its suffix, from which FFmpeg guesses raw formats."""
    if isinstance(source, bytes):
        yield BytesIO(source)
        return
    if Path(source).exists() and not Path(source).is_file():
        raise VideoError("not a regular file")  # reading a pipe would wait for its writer
    with FileIO(source) as raw:
        raw.name = f"video{Path(source).suffix}"  # FFmpeg interprets names, so it sees no more of this one
        yield BufferedReader(raw)


@contextmanager
def video_errors() -> Iterator[None]:
    """Raise VideoError for the errors of PyAV and of the file system."""
    av: Any = require("av", "video")
    try:
        yield
    except av.EOFError as fault:
        raise VideoError("holds no frame that can be decoded") from fault
    except (av.FFmpegError, OSError, ValueError) as fault:
        # the name of the file is left out: it is not the one by which FFmpeg knows it
        reason = getattr(fault, "strerror", None) or fault
        raise VideoError(f"{type(fault).__name__}: {reason}") from fault
