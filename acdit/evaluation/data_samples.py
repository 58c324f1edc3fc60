"""Samples of a data source that training reads too: built-in sets, folders, Hugging Face data sets."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..data.config import DataConfig
from ..data.data_sets import PIXEL_SETS, built_in
from ..data.dataset import PixelDataset
from ..data.file_data_sets import FileClips
from ..data.image_decoding import Unreadable
from ..data.opening import open_samples
from ..data.splits import SPLIT_OF, held_out_split
from ..model.layout import dims
from ..utils.errors import UserError
from ..utils.names import NAMELESS
from .samples import Reader, StoredSamples


class DataSamples(StoredSamples):
    """Samples of a data set, without augmentation; damaged files are left out and named, see `Samples`.

    Args:
        data: the data set.
        name: name of the set in messages.

    Attributes:
        data: the data set.
    """

    def __init__(self, data: PixelDataset, name: str) -> None:
        names = () if data.label_names == NAMELESS else data.label_names
        super().__init__(name, (data.channels, *data.size), len(data), data.labels if names else None, names)
        self.data = data
        self.unreadable |= data.skipped

    @contextmanager
    def opened(self) -> Iterator[Reader]:
        """Return the function that decodes samples."""
        yield self._read

    def digest(self) -> str:
        """Return a digest of the identity of the data, the times of its files, and the shape of a sample."""
        digest = hashlib.blake2b(digest_size=16)
        clips = self.data.shape if isinstance(self.data, FileClips) else None  # stride, and what is too short
        facts = (self.data.recorded_name, self.name, self.data.identity.digest, self.shape, clips)
        digest.update(repr(facts).encode())
        for index in range(len(self.data)):
            digest.update(self.data.modified(index).to_bytes(16, "big", signed=True))
        return digest.hexdigest()

    def _read(self, indices: Sequence[int]) -> tuple[Sequence[int], Tensor]:
        readable, samples = [], []
        for index in indices:
            try:
                samples.append(self.data.decode(index))
                readable.append(index)
            except Unreadable as fault:  # another file in its place would be counted twice
                self.unreadable[self.data.name(index)] = str(fault)
        return readable, torch.stack(samples) if samples else torch.empty(0, *self.shape)


def open_data(
    source: str,
    *,
    size: int | None,
    channels: int | None = None,
    frames: int | None = None,
    split: str | None = None,
    stride: int = 1,
) -> DataSamples:
    """Open a data source as samples, cropped to squares as for training, without augmentation.

    Args:
        source: name of a built-in data set, a folder of images or videos, or a Hugging Face data set.
        size: side of the images or frames in pixels; None for built-in data sets, whose size is fixed.
        channels: number of channels of files, 1 or 3; None = 3. Built-in data sets have their own.
        frames: number of frames of a clip; None for images.
        split: part of the source, such as `train`; None = the held-out part of a built-in data set, or
            `validation` if the source has splits, or else everything.
        stride: distance between the frames of a clip, in frames of the video at its mean rate.

    Raises:
        UserError: if there is no such source or part, it does not fit the arguments, or it holds no samples.
    """
    if stride != 1 and (frames is None or source in built_in()):
        samples = "images" if frames is None else "clips that are drawn, not read from videos"
        raise UserError(f"a stride is for clips of video files, but {source} holds {samples}: leave it out")
    config = DataConfig(
        source=source,
        split=split or held_out_split(source, texts=False),
        image_size=size,
        channels=1 if channels == 1 else 3,
        frames=frames,
        frame_stride=stride,
        short_clips="skip" if frames else "loop",
        flip=False,
    )
    part = ""
    if source in built_in():
        if source not in PIXEL_SETS:
            raise UserError(f"{source} holds texts, not images or clips: name images or clips")
        config, held_out = _of_built_in(config, split)
        part = ", held out" if held_out else ", training part"
    else:
        held_out = False
    try:
        data = open_samples(config, seed=0, held_out=held_out)
    except UserError as fault:
        raise UserError(str(fault).replace("data.image_size", "--size")) from fault
    return DataSamples(data, source + part)


def _of_built_in(config: DataConfig, split: str | None) -> tuple[DataConfig, bool]:
    """Return the configuration of a built-in data set without a split, and whether that is held out."""
    kind = "validation" if split is None else SPLIT_OF.get(split.lower(), split)
    if kind not in ("train", "validation", "test"):
        raise UserError(
            f"{config.source} has the parts train and validation, which is held out, not {split!r}"
        )
    data_set = PIXEL_SETS[config.source]
    if config.image_size not in (None, data_set.side):
        raise UserError(
            f"{config.source} holds {data_set.modality}s of {dims((data_set.side,) * 2)} pixels, not "
            f"{dims((config.image_size or 0,) * 2)}: name data of that size"
        )
    config.split, config.image_size, config.short_clips = "train", None, "loop"
    return config, kind != "train"
