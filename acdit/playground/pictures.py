"""Pictures and clips as data URLs: to the browser as PNG, and from the browser within limits."""

import base64
import binascii
import re
import struct
import sys
from collections.abc import Iterable
from io import BytesIO
from itertools import islice

from PIL import Image

from ..data.image_decoding import centre_crop, check_aspect
from ..media.pictures import Unreadable, opened_picture, rgb_picture
from ..media.video_opening import VideoError
from ..media.video_reading import VideoReader
from ..utils.errors import UserError
from .refusals import Refusal

UPLOAD_BYTES = 16 * 2**20
UPLOAD_PIXELS = 2**24
UPLOAD_FRAMES = 64
UPLOAD_DECODED = 2**31  # pixels of a clip that are decoded; see `VideoReader`
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "AVIF")  # Pillow runs another program for some others
READ = (*FORMATS, "MPO")  # Pillow's name of a JPEG that holds further pictures, as those of phones do
DATA_URL = re.compile(r"data:[\w.+/-]{0,100}(?:;[\w.+=-]{1,100}){0,4};base64,")


def data_url(picture: Image.Image) -> str:
    """Return a picture as the data URL of a PNG."""
    buffer = BytesIO()
    picture.save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def data_urls(pictures: Iterable[Image.Image]) -> list[str]:
    """Return pictures as data URLs."""
    return [data_url(picture) for picture in pictures]


def uploaded_picture(url: str, side: int, channels: int) -> Image.Image:
    """Return an uploaded picture as a model sees it: its central square at the size and in the colours.

    Args:
        url: data URL of the picture.
        side: side of the square in pixels.
        channels: 1 for grey, 3 for colour.

    Raises:
        UserError: if it is no picture, is damaged, or has more pixels than the page reads.
    """
    data = uploaded_bytes(url)
    try:
        with opened_picture(data, sys.maxsize) as image:
            if image.format not in READ:
                raise Unreadable(f"it is a file of the format {image.format}: use {', '.join(FORMATS)}")
            _check_size(*image.size)
            picture = rgb_picture(image)
    except Unreadable as fault:
        raise UserError(f"the picture cannot be read: {fault}") from fault
    return centre_crop(picture.convert("L") if channels == 1 else picture, side)


def uploaded_clip(url: str, side: int, channels: int) -> list[Image.Image]:
    """Return the first frames of an uploaded clip as a model sees them; see `uploaded_picture`.

    Raises:
        UserError: if it is no video, has no frames, is damaged, or has more pixels than the page reads.
    """
    data = uploaded_bytes(url)
    try:
        if data[:4] == b"GIF8" and len(data) >= 10:
            _check_size(*struct.unpack("<HH", data[6:10]))
        with VideoReader(data, max_pixels=UPLOAD_PIXELS, max_decoded=UPLOAD_DECODED) as video:
            return [
                centre_crop(frame.convert("L" if channels == 1 else "RGB"), side)
                for frame in islice(video.every_frame(), UPLOAD_FRAMES)
            ]
    except (VideoError, Unreadable) as fault:
        raise UserError(f"the clip cannot be read: {fault}") from fault


def uploaded_bytes(url: str) -> bytes:
    """Return the bytes of a data URL.

    Raises:
        UserError: if it is no data URL in base64, or longer than the page reads.
    """
    match = DATA_URL.match(url)
    if match is None:
        raise UserError("the upload must be a data URL in base64, such as data:image/png;base64,...")
    if len(url) - match.end() > -(-UPLOAD_BYTES // 3) * 4:
        raise Refusal(f"the upload is larger than {UPLOAD_BYTES // 2**20} MiB", 413)
    try:
        return base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError) as fault:
        raise UserError("the upload is not valid base64") from fault


def _check_size(width: int, height: int) -> None:
    """Raise Unreadable for a picture that is too large or too narrow; nothing has been decoded yet."""
    if width * height > UPLOAD_PIXELS:
        raise Unreadable(
            f"it has {width:,}x{height:,} pixels, and the page reads {UPLOAD_PIXELS:,}: make it smaller"
        )
    check_aspect(width, height)
