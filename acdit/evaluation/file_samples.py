"""Finished samples in files of pictures or of videos, read as they are: neither resized nor cropped."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from ..data.class_folders import find_class_files
from ..data.config import DataConfig
from ..data.folders import visible_entries
from ..data.splits import held_out_split, is_picture
from ..media.pictures import Unreadable, opened_picture, rgb_picture
from ..media.video_opening import VideoError
from ..media.video_reading import VideoReader
from ..model.layout import dims
from ..utils.errors import UserError
from ..utils.names import NAMELESS
from ..utils.progress_bar import ProgressBar
from ..utils.untrusted import damage, plain, read_object
from .samples import Reader, StoredSamples

LABELS_FILE = "labels.json"  # classes of the pictures in a folder that `acdit sample` writes
VIDEO_SUFFIXES = frozenset(
    (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv")
)
TURNED = range(5, 9)  # EXIF orientations by which width and height change places


class FileSamples(StoredSamples):
    """Pictures or videos in files, all of one size, in colour; see `Samples`.

    Args:
        name: name of the set in messages.
        files: paths of the files.
        labels: class of each file, if there are classes.
        label_names: names of the classes, if they are known.

    Raises:
        UserError: if a file cannot be read, or two files have different sizes.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        labels: Tensor | None = None,
        label_names: Sequence[str] = (),
    ) -> None:
        if not files:
            raise UserError(f"{name} holds no pictures or videos")
        self._files = files
        self._videos = is_video(files[0])
        shapes: dict[tuple[int, ...], Path] = {}
        for path in ProgressBar(files, desc="checking files", unit="file", delay=3, leave=False):
            shapes.setdefault(self._shape_of(path), path)
            if len(shapes) > 1:
                (one, first), (other, second) = shapes.items()
                word = "videos of different sizes" if self._videos else "pictures of different sizes"
                raise UserError(
                    f"{name} holds {word}: {first} has {dims(one)}, {second} has {dims(other)}; give samples "
                    "of one size, or a size to crop real data to"
                )
        super().__init__(name, (3, *next(iter(shapes))), len(files), labels, label_names)

    @contextmanager
    def opened(self) -> Iterator[Reader]:
        """Return the function that decodes files."""
        yield self._read

    def digest(self) -> str:
        """Return a digest of the names, sizes and times of the files, and of the shape of a sample."""
        digest = hashlib.blake2b(repr(self.shape).encode(), digest_size=16)
        for path in self._files:
            status = path.stat()
            digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return digest.hexdigest()

    def _read(self, indices: Sequence[int]) -> tuple[Sequence[int], Tensor]:
        return indices, torch.stack([self._decode(self._files[index]) for index in indices])

    def _decode(self, path: Path) -> Tensor:
        """Return a picture (3, H, W) or a video (3, F, H, W), in [-1, 1]."""
        with _naming(path, self._videos):
            if self._videos:
                with VideoReader(path) as video:
                    frames = list(islice(video.every_frame(), self.shape[1] + 1))
                pixels = np.stack([np.asarray(frame.convert("RGB")) for frame in frames])  # (F, H, W, 3)
            else:
                with opened_picture(str(path)) as image:
                    pixels = np.array(rgb_picture(image))  # (H, W, 3)
        if pixels.shape[:-1] != self.shape[1:]:
            raise UserError(
                f"{path} has {dims(pixels.shape[:-1])}, not {dims(self.shape[1:])} as it announces"
            )
        return torch.from_numpy(pixels).movedim(-1, 0).contiguous().float() / 127.5 - 1

    def _shape_of(self, path: Path) -> tuple[int, ...]:
        """Return (H, W) of a picture, or (F, H, W) of a video, without decoding all of it."""
        if is_video(path) != self._videos:
            other = "a video" if not self._videos else "no video"
            raise UserError(
                f"{path} is {other}, unlike {self._files[0]}: give pictures alone, or videos alone"
            )
        with _naming(path, self._videos):
            if not self._videos:
                with opened_picture(str(path)) as image:
                    return _height_width(image)
            with VideoReader(path) as video:
                return video.length, *_height_width(next(iter(video.frames([0]))))


def open_folder(folder: Path, split: str | None = None) -> FileSamples:
    """Open the pictures or videos in a folder as they are; sub-folders are classes, see `find_class_files`.

    A folder that `acdit sample` wrote names the classes of its pictures in labels.json.

    Args:
        folder: folder of files, or of one folder for each class.
        split: split, if the sub-folders are splits; None = `validation`.

    Raises:
        UserError: if the folder is empty, or see `FileSamples`.
    """
    if not visible_entries(folder):
        raise UserError(f"{folder} is empty: it must hold pictures or videos")
    source = str(folder)
    config = DataConfig(source=source, split=split or held_out_split(source, texts=False))
    files = find_class_files(config)
    samples = [(name, path) for name, path in files.files if is_picture(path)]
    paths = [path for _, path in samples]
    listing = files.root / LABELS_FILE
    if files.classes == NAMELESS and listing.is_file():
        labels, names = _listed_labels(listing, paths), ()
    elif files.classes == NAMELESS:
        labels, names = None, ()
    else:
        names = files.classes
        labels = torch.tensor([names.index(name) for name, _ in samples], dtype=torch.long)
    opened = FileSamples(source, paths, labels, names)
    opened.unreadable |= {name: reason for name, reason in files.left_out.items() if is_picture(Path(name))}
    return opened


def is_video(path: Path) -> bool:
    """Return whether a file has the suffix of a format of videos."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def _listed_labels(listing: Path, paths: Sequence[Path]) -> Tensor:
    """Return the class of each file, as a file of JSON lists them by name."""
    labels = read_object(listing)
    for path in paths:
        label = labels.get(path.name)
        if type(label) is not int or not 0 <= label < 2**31:
            raise damage(listing, f"it must give the class of {plain(path.name)} as a whole number")
    return torch.tensor([labels[path.name] for path in paths], dtype=torch.long)


def _height_width(image: Image.Image) -> tuple[int, int]:
    turned = image.getexif().get(ExifTags.Base.Orientation) in TURNED
    return (image.width, image.height) if turned else (image.height, image.width)


@contextmanager
def _naming(path: Path, video: bool) -> Iterator[None]:
    """Raise UserError that names the file if it cannot be decoded."""
    try:
        yield
    except (Unreadable, VideoError) as fault:
        kind = "video" if video else "picture"
        raise UserError(f"{path} cannot be read as a {kind}: {fault}; remove it or write it again") from fault
