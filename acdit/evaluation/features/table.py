"""Table of the feature extractors by name. Imports torch only when an extractor is opened."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from ...utils.errors import UserError, in_words
from ...utils.references import load_object
from ...utils.settings import nearest

if TYPE_CHECKING:
    import torch

    from .extractor import ExtractorRequest, FeatureExtractor

HERE = "acdit.evaluation.features"
MODALITIES = {0: "text", 3: "image", 4: "video"}  # by the number of axes of a sample


@dataclass(frozen=True)
class ExtractorEntry:
    """Entry of the table of feature extractors.

    Attributes:
        open: import string of a function of an `ExtractorRequest` that returns the extractor.
        modalities: modalities whose samples it takes.
        argument: meaning of the argument of NAME:ARGUMENT, such as FILE; empty if it takes none.
        optional: whether the argument may be left out.
        program: whether the argument is a program, which needs the user's trust.
    """

    open: str
    modalities: tuple[Literal["image", "video", "text"], ...]
    argument: str = ""
    optional: bool = False
    program: bool = False


EXTRACTORS: dict[str, ExtractorEntry] = {
    # values of the pixels, to find copies
    "pixels": ExtractorEntry(f"{HERE}.pixels:open_pixels", ("image", "video")),
    "efficientnet-lite0": ExtractorEntry(f"{HERE}.efficientnet:open_efficientnet", ("image",)),
    # the network of FID; without FILE its weights are fetched
    "inception": ExtractorEntry(f"{HERE}.inception:open_inception", ("image",), "FILE", optional=True),
    # the same after bicubic resizing with antialiasing, as in clean-fid
    "inception-antialias": ExtractorEntry(
        f"{HERE}.inception:open_inception_antialias", ("image",), "FILE", optional=True
    ),
    "dinov2": ExtractorEntry(f"{HERE}.dinov2:open_dinov2", ("image",), "MODEL"),
    "clip": ExtractorEntry(f"{HERE}.clip:open_clip", ("image",), "MODEL"),
    # classifiers of grey digits of 8x8 or 32x32 pixels, and of moving digits of 16x16 or 32x32, fitted here
    "digit-classifier": ExtractorEntry(f"{HERE}.digit_classifier:open_digit_classifier", ("image",)),
    "clip-classifier": ExtractorEntry(f"{HERE}.clip_network:open_clip_classifier", ("video",)),
    # the network of Fréchet video distances
    "i3d": ExtractorEntry(f"{HERE}.torchscript:open_i3d", ("video",), "FILE", program=True),
    # features NAME of images, of every frame
    "frames": ExtractorEntry(f"{HERE}.frames:open_frames", ("video",), "NAME"),
    "torchscript": ExtractorEntry(
        f"{HERE}.torchscript:open_torchscript", ("image", "video"), "FILE", program=True
    ),
    "minilm": ExtractorEntry(f"{HERE}.minilm:open_minilm", ("text",)),
}


def find_extractor(name: str, modality: str) -> tuple[ExtractorEntry, str]:
    """Return the entry that NAME or NAME:ARGUMENT names, and the argument.

    Raises:
        UserError: if there is no such extractor, it is not for the modality, or its argument is missing or
            superfluous.
    """
    key, colon, argument = name.partition(":")
    if key not in EXTRACTORS:
        close = nearest(key, EXTRACTORS)[0]
        raise UserError(f"unknown features {key!r}; did you mean {close}? There are {', '.join(EXTRACTORS)}")
    entry = EXTRACTORS[key]
    if colon and not entry.argument:
        raise UserError(f"the features {key} take no argument: write {key}, not {name}")
    if entry.argument and not argument and (colon or not entry.optional):
        raise UserError(f"the features {key} need an argument: write {key}:{entry.argument}")
    if modality not in entry.modalities:
        hint = f"; frames:{name} computes them of every frame" if _has_frames(entry, modality) else ""
        raise UserError(
            f"the features {key} are for {in_words(entry.modalities, 'and')}, not for {modality}{hint}"
        )
    return entry, argument


def find_program(name: str, modality: str) -> str | None:
    """Return the program that features would run, such as a TorchScript file; None if there is none.

    Raises:
        UserError: see `find_extractor`.
    """
    entry, argument = find_extractor(name, modality)
    if entry is EXTRACTORS["frames"]:
        return find_program(argument, "image")
    return argument if entry.program else None


def open_extractor(
    name: str, shape: tuple[int, ...], device: "torch.device", *, trust: bool = False
) -> "FeatureExtractor[Any]":
    """Return the extractor that NAME or NAME:ARGUMENT names, for samples of a shape, on a device.

    Args:
        name: name of an entry of `EXTRACTORS`, with its argument.
        shape: shape of a sample, (C, H, W) or (C, F, H, W); () for texts.
        device: device of the network.
        trust: whether features may be programs, such as TorchScript files, which run with the user's
            permissions.

    Raises:
        UserError: if there is no such extractor, it does not take such samples, it cannot be loaded, or it is
            a program and not trusted.
    """
    from .extractor import ExtractorRequest

    modality = MODALITIES[len(shape)]
    entry, argument = find_extractor(name, modality)
    program = find_program(name, modality)
    if program is not None and not trust:
        raise UserError(
            f"{program} is a program that runs with your permissions: it must be trusted to compute features "
            f"({name})"
        )
    opened = cast("Callable[[ExtractorRequest], FeatureExtractor[Any]]", load_object(entry.open))
    return opened(ExtractorRequest(argument, shape, device, trust))


def _has_frames(entry: ExtractorEntry, modality: str) -> bool:
    return modality == "video" and entry.modalities == ("image",)
