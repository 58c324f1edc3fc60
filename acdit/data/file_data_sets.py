"""Data sets of images and clips from files, for training."""

from abc import abstractmethod

import torch

from ..utils.errors import UserError
from ..utils.randomness import generator
from .dataset import PixelDataset
from .file_contents import described_files, file_content, modification_time, row_name
from .file_tables import FileTable
from .identity import DataIdentity, FileContent, identify
from .image_decoding import Unreadable, decode_image
from .video_decoding import ClipShape, decode_clip

CENTRE = 0.5  # default position of a clip in its video, see `decode_clip`


class FileDataset(PixelDataset):
    """Data set of files that are decoded when read; the next readable file replaces a damaged one.

    Args:
        table: table of the files.
        flip_seed: seed of the random mirroring, see `LabelledDataset`.
        items: number of consecutive items per file.

    Attributes:
        file_table: table in which every file occurs once.
        table: table in which every item has a row.
    """

    def __init__(self, table: FileTable, flip_seed: int | None, items: int = 1) -> None:
        self.file_table, self.table, self._items = table, table.repeated(items), items
        self.labels, self.label_names = self.table.labels, table.label_names
        self.flip_seed = flip_seed
        # shared with the loader's worker processes, so that `skipped` includes the damage that they find
        self._damaged = torch.zeros(len(self), dtype=torch.bool).share_memory_()

    @property
    def identity(self) -> DataIdentity:
        """Return the identity of the data, with relative paths and sizes of the files."""
        items = zip(described_files(self.file_table), self.file_table.labels.tolist(), strict=True)
        return identify(self.source, "files", self.label_names, items)

    def content(self, index: int) -> FileContent:
        """Return the content of the file of an item."""
        return file_content(self.file_table, index // self._items)

    def modified(self, index: int) -> int:
        """Return the time at which the file of an item was last modified, see `FileContent`."""
        return modification_time(self.file_table, index // self._items)

    def file_name(self, index: int) -> str:
        """Return the name of the file of an item, relative to the data root."""
        return row_name(self.file_table, index // self._items)

    @property
    def damaged(self) -> torch.Tensor:
        """Return a mask (N,) of the files that could not be decoded so far."""
        return self._damaged

    @property
    def skipped(self) -> dict[str, str]:
        """Return the files that were left out or could not be decoded so far, with the reasons."""
        reasons = {}
        for index in self.damaged.nonzero().flatten().tolist():
            name = self.name(index)
            try:
                self.decode(index)
                reasons[name] = "could not be read at the first attempt"
            except Unreadable as fault:
                reasons[name] = str(fault)
        return self.table.skipped | reasons

    def name(self, index: int) -> str:
        """Return the path of an item's file, or its row if the table holds the bytes."""
        encoded = self.table.encoded(index)
        return encoded if isinstance(encoded, str) and encoded else super().name(index)

    def read(self, index: int) -> tuple[torch.Tensor, int]:
        """Return the data (C, *size) and the label of an item, without augmentation."""
        return self.read_at(index, self.moment(index))

    def decode(self, index: int) -> torch.Tensor:
        """Return the data (C, *size) of an item, without augmentation.

        Raises:
            Unreadable: if this item itself is damaged.
        """
        return self._decoded(index, self.moment(index))

    def moment(self, index: int) -> float:
        """Return the position of a clip in its video when it is not drawn at random, see `decode_clip`."""
        return CENTRE

    def read_at(self, index: int, moment: float) -> tuple[torch.Tensor, int]:
        """Return the data (C, *size) and the label of an item, without augmentation.

        Args:
            index: index of the item.
            moment: position of a clip in its video, see `decode_clip`; images ignore it.

        Raises:
            UserError: if no file can be decoded.
        """
        for step in range(len(self)):
            candidate = (index + step) % len(self)
            # files known to be damaged are tried too: a video may be damaged in part, and an item must not
            # depend on earlier reads
            try:
                return self._decoded(candidate, moment), int(self.labels[candidate])
            except Unreadable:
                self.damaged[candidate] = True
        name, reason = next(iter(self.skipped.items()))
        raise UserError(
            f"none of the {len(self)} {self.table.modality}s can be decoded; first problem: {name}: {reason}"
        )

    def _decoded(self, index: int, moment: float) -> torch.Tensor:
        encoded = self.table.encoded(index)
        if not encoded:
            raise Unreadable(f"holds no {self.table.modality}")
        return self.decode_file(encoded, moment)

    @abstractmethod
    def decode_file(self, encoded: bytes | str, moment: float) -> torch.Tensor:
        """Return the data (C, *size) of a file, given its path or its bytes.

        Raises:
            Unreadable: if the file is damaged.
        """


class FileImages(FileDataset):
    """Data set of image files of at most `max_pixels`, cropped to squares."""

    def __init__(
        self, table: FileTable, *, image_size: int, channels: int, flip_seed: int | None, max_pixels: int
    ) -> None:
        super().__init__(table, flip_seed)
        self.size, self.channels, self.max_pixels = (image_size, image_size), channels, max_pixels

    def decode_file(self, encoded: bytes | str, moment: float) -> torch.Tensor:
        """Return the centre crop (C, H, W) of an image file, see `decode_image`."""
        return decode_image(encoded, self.size[0], self.channels, self.max_pixels)


class FileClips(FileDataset):
    """Data set of clips from video files.

    In training, the position of a clip in its video is drawn anew at every visit; otherwise the clips of a
    video are evenly spread over it.

    Args:
        table: table of the files.
        shape: shape of a clip.
        seed: seed of the random positions.
        flip_seed: seed of the random mirroring, see `LabelledDataset`.
        clips: number of consecutive items per file; a single clip is taken from the middle.
    """

    def __init__(
        self, table: FileTable, *, shape: ClipShape, seed: int, flip_seed: int | None, clips: int = 1
    ) -> None:
        super().__init__(table, flip_seed, clips)
        self.shape, self.seed, self.clips = shape, seed, clips
        self.size, self.channels = (shape.frames, shape.side, shape.side), shape.channels

    def drawn(self, epoch: int, index: int, mirrored: bool) -> tuple[torch.Tensor, int]:
        """Return a clip (C, F, H, W) from a random position, mirrored if requested, and its label."""
        moment = torch.rand((), generator=generator(self.seed, "clip", epoch, index)).item()
        data, label = self.read_at(index, moment)
        return (data.flip(-1) if mirrored else data), label

    def moment(self, index: int) -> float:
        """Return the position of a clip in its video: the clips of a file are evenly spread."""
        return (index % self.clips + 0.5) / self.clips

    def decode_file(self, encoded: bytes | str, moment: float) -> torch.Tensor:
        """Return a clip (C, F, H, W) of a video file, see `decode_clip`."""
        return decode_clip(encoded, self.shape, moment)
