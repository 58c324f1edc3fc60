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
        argument: meaning of the argument of NAME:ARGUMENT, such as FILE; empty if there is none.
        offline: whether it needs nothing that would have to be fetched.
        description: one line for the help.
        optional: whether the argument may be left out.
        program: whether the argument is a program, which needs the user's trust.
    """

    open: str
    modalities: tuple[Literal["image", "video", "text"], ...]
    argument: str
    offline: bool
    description: str
    optional: bool = False
    program: bool = False


EXTRACTORS: dict[str, ExtractorEntry] = {
    "pixels": ExtractorEntry(
        f"{HERE}.pixels:open_pixels", ("image", "video"), "", True, "values of the pixels, to find copies"
    ),
    "efficientnet-lite0": ExtractorEntry(
        f"{HERE}.efficientnet:open_efficientnet",
        ("image",),
        "",
        True,
        "EfficientNet-Lite0, trained on ImageNet",
    ),
    "inception": ExtractorEntry(
        f"{HERE}.inception:open_inception",
        ("image",),
        "FILE",
        False,
        "the Inception network of FID; without FILE its weights are fetched",
        optional=True,
    ),
    "inception-antialias": ExtractorEntry(
        f"{HERE}.inception:open_inception_antialias",
        ("image",),
        "FILE",
        False,
        "the same after bicubic resizing with antialiasing, as in clean-fid",
        optional=True,
    ),
    "dinov2": ExtractorEntry(
        f"{HERE}.dinov2:open_dinov2",
        ("image",),
        "MODEL",
        False,
        "DINOv2, from a folder or by its name on the hub, such as facebook/dinov2-large",
    ),
    "clip": ExtractorEntry(
        f"{HERE}.clip:open_clip",
        ("image",),
        "MODEL",
        False,
        "CLIP, from a folder or the hub; openai/clip-vit-large-patch14-336 for CMMD",
    ),
    "digit-classifier": ExtractorEntry(
        f"{HERE}.digit_classifier:open_digit_classifier",
        ("image",),
        "",
        True,
        "a classifier of digits (grey, 8x8 or 32x32), fitted here",
    ),
    "clip-classifier": ExtractorEntry(
        f"{HERE}.clip_network:open_clip_classifier",
        ("video",),
        "",
        True,
        "a network that recognises moving digits (grey, 16x16 or 32x32), fitted here",
    ),
    "i3d": ExtractorEntry(
        f"{HERE}.torchscript:open_i3d",
        ("video",),
        "FILE",
        False,
        "I3D, the network of Fréchet video distances, from its TorchScript file",
        program=True,
    ),
    "frames": ExtractorEntry(
        f"{HERE}.frames:open_frames",
        ("video",),
        "NAME",
        True,
        "features NAME of images, of every frame",
    ),
    "torchscript": ExtractorEntry(
        f"{HERE}.torchscript:open_torchscript",
        ("image", "video"),
        "FILE",
        False,
        "any network in a TorchScript file",
        program=True,
    ),
    "minilm": ExtractorEntry(
        f"{HERE}.minilm:open_minilm", ("text",), "", True, "all-MiniLM-L6-v2, a network of sentences"
    ),
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
