"""Table of the feature extractors by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast

import torch

from ...utils.errors import UserError
from ...utils.references import load_object
from ...utils.settings import nearest
from .extractor import FeatureExtractor

OpenExtractor = Callable[[str, tuple[int, ...], torch.device], FeatureExtractor]


@dataclass(frozen=True)
class ExtractorEntry:
    """Entry of the table of feature extractors.

    Attributes:
        open: import string of a function (argument, shape, device) that returns the extractor. `argument` is
            the text after the colon of NAME:ARGUMENT, empty if there is none; `shape` is that of a sample,
            (C, H, W) or (C, F, H, W).
        modalities: modalities whose samples it takes.
        argument: meaning of the argument, such as FILE; empty if there is none.
        offline: whether it needs nothing that would have to be fetched.
        description: one line for the help.
    """

    open: str
    modalities: tuple[Literal["image", "video", "text"], ...]
    argument: str
    offline: bool
    description: str


EXTRACTORS: dict[str, ExtractorEntry] = {
    "pixels": ExtractorEntry(
        "acdit.evaluation.features.pixels:open_pixels",
        ("image", "video"),
        "",
        True,
        "values of the pixels, to find copies",
    ),
}


def open_extractor(name: str, shape: tuple[int, ...], device: torch.device) -> FeatureExtractor:
    """Return the extractor that NAME or NAME:ARGUMENT names, for samples of a shape, on a device.

    Raises:
        UserError: if there is no such extractor, it does not take such samples, or it cannot be loaded.
    """
    key, _, argument = name.partition(":")
    if key not in EXTRACTORS:
        close = nearest(key, EXTRACTORS)[0]
        raise UserError(f"unknown features {key!r}; did you mean {close}? There are {', '.join(EXTRACTORS)}")
    entry = EXTRACTORS[key]
    if argument and not entry.argument:
        raise UserError(f"the features {key} take no argument: write {key}, not {name}")
    modality = "image" if len(shape) == 3 else "video"
    if modality not in entry.modalities:
        raise UserError(f"the features {key} are for {' and '.join(entry.modalities)}, not for {modality}")
    return cast(OpenExtractor, load_object(entry.open))(argument, shape, device)
