"""Images from files, as a data set for training."""

import torch

from ..errors import UserError
from .dataset import PixelDataset
from .decode import UnreadableImage, decode_image
from .sources import ImageTable


class FileImages(PixelDataset):
    """Images decoded and cropped when read; where one is damaged, the next good one takes its place."""

    def __init__(self, table: ImageTable, *, image_size: int, channels: int, flip_seed: int | None) -> None:
        self.table, self.labels, self.label_names = table, table.labels, table.label_names
        self.size, self.channels, self.flip_seed = (image_size, image_size), channels, flip_seed
        # shared with the loader's worker processes, so that `skipped` knows what they found
        self._damaged = torch.zeros(len(self), dtype=torch.bool).share_memory_()

    @property
    def damaged(self) -> torch.Tensor:
        return self._damaged

    @property
    def skipped(self) -> dict[str, str]:
        found = {}
        for index in self.damaged.nonzero().flatten().tolist():
            encoded = self.encoded(index)
            name = encoded if isinstance(encoded, str) and encoded else f"row {index}"
            try:
                self.decode(index)
                found[name] = "could not be read at first"
            except UnreadableImage as fault:
                found[name] = str(fault)
        return self.table.skipped | found

    def read(self, index: int) -> tuple[torch.Tensor, int]:
        for step in range(len(self)):
            good = (index + step) % len(self)
            if self.damaged[good]:
                continue
            try:
                return self.decode(good), int(self.labels[good])
            except UnreadableImage:
                self.damaged[good] = True
        name, reason = next(iter(self.skipped.items()))
        raise UserError(f"none of the {len(self)} images can be decoded; {name}, for one: {reason}")

    def decode(self, index: int) -> torch.Tensor:
        encoded = self.encoded(index)
        if not encoded:
            raise UnreadableImage("holds no image")
        return decode_image(encoded, self.size[0], self.channels)

    def encoded(self, index: int) -> bytes | str | None:
        """A file's bytes or its path."""
        cell = self.table.images[index]["image"] or {}
        return cell.get("bytes") or cell.get("path")
