"""Open any source of images or clips as samples: files of samples, folders, data sets."""

from pathlib import Path
from zipfile import is_zipfile

from torch import Tensor

from ..data.data_sets import built_in
from ..data.folders import holds_tables
from ..model.layout import dims
from ..utils.checks import exists
from ..utils.errors import UserError
from .array_samples import ArraySamples
from .channels import with_channels
from .data_samples import open_data
from .file_samples import FileSamples, is_video, open_folder
from .samples import Samples, StoredSamples


def open_samples_of(
    source: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    frames: int | None = None,
    split: str | None = None,
    stride: int = 1,
    count: int | None = None,
) -> Samples[Tensor]:
    """Open a source of images or clips.

    - An .npz file in the format of the ADM evaluator, see `ArraySamples`.
    - A folder of pictures or of videos, or a video file. Without `size`, they are read as they are and must
      all have one size, see `FileSamples`; with it, they are cropped as for training, see `open_data`.
    - A built-in data set or a Hugging Face data set, see `open_data`.

    Args:
        source: path or name of the source.
        size: side in pixels that files are cropped to; of other sources, the side that they must have.
        channels: number of channels that samples are converted to, 1 or 3; None = that of the source.
        frames: number of frames of a clip, for sources that are cut into clips.
        split: part of the source, such as `train`; None = the held-out part, if there is one.
        stride: distance between the frames of a clip.
        count: number of samples, at even steps; None = all.

    Raises:
        UserError: if there is no such source, or it does not fit the arguments.
    """
    samples = _opened(source, size, channels, frames, split, stride)
    sides = samples.shape[-2:]
    if size is not None and sides != (size, size):
        raise UserError(f"{source} holds samples of {dims(sides)} pixels, not {size}x{size}")
    if count is not None:
        samples = samples.spread(count)
    return samples if channels is None else with_channels(samples, channels, to_grey=True)


def check_modality(samples: Samples[Tensor], modality: str) -> None:
    """Raise UserError unless samples are of a modality, `image` or `video`."""
    held = "image" if len(samples.shape) == 3 else "video"
    if held != modality:
        words = {"image": "images", "video": "clips"}
        raise UserError(f"{samples.name} holds {words[held]}, but {words[modality]} are needed")


def _opened(
    source: str,
    size: int | None,
    channels: int | None,
    frames: int | None,
    split: str | None,
    stride: int,
) -> StoredSamples:
    path = Path(source).expanduser()
    if source in built_in() or not exists(path):
        if path.suffix.lower() == ".npz" or (is_video(path) and path.suffix):
            raise UserError(f"{source} does not exist")
        return open_data(source, size=size, channels=channels, frames=frames, split=split, stride=stride)
    if path.is_dir() and (size is not None or holds_tables(path)):
        return open_data(source, size=size, channels=channels, frames=frames, split=split, stride=stride)
    if frames is not None or stride != 1:
        unused = "stride" if frames is None else "frames"
        if path.is_dir():
            raise UserError(f"{unused} applies to data that are cropped: give a size too")
        raise UserError(f"{unused} applies to folders and data sets; {source} is read as it is: leave it out")
    if path.is_dir():
        return open_folder(path, split)
    if split is not None:
        raise UserError(f"{source} is a file, which has no split {split!r}: leave it out")
    if is_video(path):
        return FileSamples(source, [path])
    if path.suffix.lower() != ".npz" and not is_zipfile(path):
        raise UserError(f"{source} is neither an .npz file nor a video: give one, or a folder or a data set")
    return ArraySamples(path)
