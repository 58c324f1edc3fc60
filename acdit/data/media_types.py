"""Types of the files of a source: images or videos, and how a file of each is recognised."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .image_decoding import check_header
from .video_decoding import ClipShape, check_video

if TYPE_CHECKING:
    import datasets


class Media(NamedTuple):
    """Type of the files of a source: images or videos."""

    modality: str
    """Name of the modality, `image` or `video`."""
    check: Callable[[bytes | str], None]
    """Function that reads little of a file and raises Unreadable if it is recognisably not of this type."""
    formats: str
    """Examples of formats that can be read."""
    all_rows: bool = False
    """If true, the rows of a data set are checked as files are."""

    def feature(self) -> "datasets.Image | datasets.Video":
        """Return the feature of a column of such files, without decoding."""
        import datasets

        return getattr(datasets, self.modality.capitalize())(decode=False)


def images(max_pixels: int) -> Media:
    """Return the media type of images of at most so many pixels."""
    return Media("image", partial(check_header, max_pixels=max_pixels), "PNG or JPEG")


def videos(shape: ClipShape) -> Media:
    """Return the media type of videos that clips of a shape are cut from.

    If videos that are too short are skipped, they are found before training.
    """
    return Media("video", partial(check_video, shape=shape), "MP4", shape.short == "skip")
