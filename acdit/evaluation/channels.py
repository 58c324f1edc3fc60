"""Samples in grey or colour, whichever others have: grey is repeated, colour is made grey only on request."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..utils.errors import UserError
from .samples import Samples

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey (ITU-R BT.601), as in Pillow


class RecolouredSamples:
    """Samples with another number of channels; see `with_channels`."""

    def __init__(self, samples: Samples[Tensor], channels: int, to_grey: bool) -> None:
        self._samples, self._channels, self._to_grey = samples, channels, to_grey
        self.name, self.labels, self.label_names = samples.name, samples.labels, samples.label_names
        self.shape, self.unreadable = (channels, *samples.shape[1:]), samples.unreadable

    def __len__(self) -> int:
        return len(self._samples)

    def batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Sequence[int], Tensor]]:
        """Yield the batches of the other samples, recoloured; see `Samples`."""
        for rows, part in self._samples.batches(size, rank, ranks):
            yield rows, part.expand(-1, 3, *part.shape[2:]) if self._channels == 3 else self._grey(part)

    def describe(self) -> dict[str, Any]:
        """Return the description of the other samples, and the number of channels."""
        return {**self._samples.describe(), "channels": self._channels}

    def _grey(self, colour: Tensor) -> Tensor:
        if bool((colour == colour[:, :1]).all()):
            return colour[:, :1]
        if not self._to_grey:
            raise UserError(
                f"{self.name} holds colour, but grey is needed: convert its pictures to grey, or compare "
                "colour with colour"
            )
        weights = torch.tensor(LUMA).view(3, *[1] * (colour.ndim - 2))
        return (colour * weights).sum(dim=1, keepdim=True)


def with_channels(samples: Samples[Tensor], channels: int, *, to_grey: bool = False) -> Samples[Tensor]:
    """Return samples with 1 or 3 channels.

    Grey is repeated in three channels. Three equal channels, in which files of colour hold grey pictures, are
    reduced to one.

    Args:
        samples: the samples.
        channels: number of channels, 1 or 3.
        to_grey: whether to convert colours to grey too; otherwise reading them raises UserError.
    """
    if samples.shape[0] == channels:
        return samples
    if {samples.shape[0], channels} != {1, 3}:
        raise UserError(f"{samples.name} has {samples.shape[0]} channels, not {channels}")
    return RecolouredSamples(samples, channels, to_grey)
