"""Tables of the data sets that need no download, by the name that `data.source` uses."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .config import DataConfig
from .dataset import InMemoryDataset, PixelDataset
from .digits import LABEL_NAMES, digit_images
from .moving_digits import SCENES, MovingDigits
from .shakespeare import SHAKESPEARE, shakespeare_works


@dataclass(frozen=True)
class PixelSet:
    """Built-in set of images or clips.

    Attributes:
        open: function that opens the set, given the configuration and whether to open the held-out part,
            which training never sees.
        modality: name of the modality.
        side: height and width in pixels.
        label_names: names of the classes.
    """

    open: Callable[[DataConfig, bool], PixelDataset]
    modality: str
    side: int
    label_names: tuple[str, ...]


def _open_digits(config: DataConfig, held_out: bool) -> PixelDataset:
    images, labels = digit_images(config.source, held_out=held_out)
    return InMemoryDataset(images, labels, LABEL_NAMES)


def _open_moving_digits(config: DataConfig, held_out: bool) -> PixelDataset:
    (frames,) = config.modality.lengths(config)
    return MovingDigits(frames, held_out=held_out, scene=SCENES[config.source])


PIXEL_SETS: dict[str, PixelSet] = {
    "mnist": PixelSet(_open_digits, "image", 32, LABEL_NAMES),
    "digits": PixelSet(_open_digits, "image", 8, LABEL_NAMES),
    **{
        scene.name: PixelSet(_open_moving_digits, "video", scene.side, LABEL_NAMES)
        for scene in SCENES.values()
    },
}

# Functions that return the documents of the held-out part if the argument is true, else the training ones.
TEXT_SETS: dict[str, Callable[[bool], Iterable[str]]] = {
    SHAKESPEARE: lambda held_out: shakespeare_works(held_out=held_out).values(),
}


def built_in() -> tuple[str, ...]:
    """Return the names of all data sets in the tables. Each has a held-out part."""
    return (*PIXEL_SETS, *TEXT_SETS)
