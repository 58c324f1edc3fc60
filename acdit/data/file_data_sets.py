"""Images and clips from files, as data sets for training."""

from abc import abstractmethod

import torch

from ..utils.errors import UserError
from ..utils.randomness import generator
from .dataset import PixelDataset
from .file_tables import FileTable
from .image_decoding import Unreadable, decode_image
from .video_decoding import ClipShape, decode_clip

CENTRE = 0.5  # where a clip lies in its video when nothing is drawn


class FileDataset(PixelDataset):
    """Files that are decoded when read; where one is damaged, the next good one takes its place.

    Args:
        table: of the files.
        flip_seed: see `LabelledDataset`.
    """

    def __init__(self, table: FileTable, flip_seed: int | None) -> None:
        self.table, self.labels, self.label_names = table, table.labels, table.label_names
        self.flip_seed = flip_seed
        # shared with the loader's worker processes, so that `skipped` knows what they found
        self._damaged = torch.zeros(len(self), dtype=torch.bool).share_memory_()

    @property
    def damaged(self) -> torch.Tensor:
        return self._damaged

    @property
    def skipped(self) -> dict[str, str]:
        found = {}
        for index in self.damaged.nonzero().flatten().tolist():
            encoded = self.table.encoded(index)
            name = encoded if isinstance(encoded, str) and encoded else f"row {index}"
            try:
                self.decode(index)
                found[name] = "could not be read at first"
            except Unreadable as fault:
                found[name] = str(fault)
        return self.table.skipped | found

    def read(self, index: int) -> tuple[torch.Tensor, int]:
        return self.read_at(index, self.moment(index))

    def decode(self, index: int) -> torch.Tensor:
        return self._decoded(index, self.moment(index))

    def moment(self, index: int) -> float:
        """Where a clip lies in its video when nothing is drawn, see `decode_clip`."""
        return CENTRE

    def read_at(self, index: int, moment: float) -> tuple[torch.Tensor, int]:
        """Data (C, *size) and label, without augmentation; of a video at a moment, see `decode_clip`."""
        for step in range(len(self)):
            good = (index + step) % len(self)
            try:  # known damage too: a video may be damaged in places, and an item depends on no past
                return self._decoded(good, moment), int(self.labels[good])
            except Unreadable:
                self.damaged[good] = True
        name, reason = next(iter(self.skipped.items()))
        raise UserError(
            f"none of the {len(self)} {self.table.noun}s can be decoded; {name}, for one: {reason}"
        )

    def _decoded(self, index: int, moment: float) -> torch.Tensor:
        encoded = self.table.encoded(index)
        if not encoded:
            raise Unreadable(f"holds no {self.table.noun}")
        return self.cut(encoded, moment)

    @abstractmethod
    def cut(self, encoded: bytes | str, moment: float) -> torch.Tensor:
        """Data (C, *size) of a file or its bytes; Unreadable if it is damaged."""


class FileImages(FileDataset):
    """Images, cropped to squares."""

    def __init__(self, table: FileTable, *, image_size: int, channels: int, flip_seed: int | None) -> None:
        super().__init__(table, flip_seed)
        self.size, self.channels = (image_size, image_size), channels

    def cut(self, encoded: bytes | str, moment: float) -> torch.Tensor:
        return decode_image(encoded, self.size[0], self.channels)


class FileClips(FileDataset):
    """Clips of videos: in training from anywhere in them, drawn anew at every visit; else evenly spread.

    Args:
        table: of the files.
        shape: of a clip.
        seed: of the draws.
        flip_seed: see `LabelledDataset`.
        clips: items of each file, in a row; a single one is from its middle.
    """

    def __init__(
        self, table: FileTable, *, shape: ClipShape, seed: int, flip_seed: int | None, clips: int = 1
    ) -> None:
        super().__init__(table.repeated(clips), flip_seed)
        self.shape, self.seed, self.clips = shape, seed, clips
        self.size, self.channels = (shape.frames, shape.edge, shape.edge), shape.channels

    def drawn(self, epoch: int, index: int, mirrored: bool) -> tuple[torch.Tensor, int]:
        moment = torch.rand((), generator=generator(self.seed, "clip", epoch, index)).item()
        data, label = self.read_at(index, moment)
        return (data.flip(-1) if mirrored else data), label

    def moment(self, index: int) -> float:
        return (index % self.clips + 0.5) / self.clips

    def cut(self, encoded: bytes | str, moment: float) -> torch.Tensor:
        return decode_clip(encoded, self.shape, moment)
