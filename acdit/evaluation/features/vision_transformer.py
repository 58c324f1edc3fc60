"""Common parts of the extractors of vision transformers: folder, size and colours of their input."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...model.weight_files import CONFIG
from ...pipelines.hub import fetched_folder
from ...utils.hub import local_or_hub
from ...utils.kinds import Kind, check_values, list_of, number, whole_number
from ...utils.untrusted import damage, read_object, shown
from .extractor import FeatureInfo, weights_version
from .image_network import bicubic

PROCESSOR = "preprocessor_config.json"
LARGEST_SIDE = 2048
SIZES = {384: "s", 768: "b", 1024: "l", 1280: "h", 1536: "g"}  # of vision transformers by width
SIDE = whole_number(1, LARGEST_SIDE)
COLOURS: dict[str, Kind] = {
    "image_mean": list_of(number(), range(3, 4)),
    "image_std": list_of(number(1e-6), range(3, 4)),
}


def network_folder(features: str, name: str, description: str) -> Path:
    """Return the folder of a network, which is fetched if its name is one on the hub.

    Args:
        features: name of the features in messages.
        name: path of a folder, or name of a model on the hub.
        description: description of such a model, with its article.

    Raises:
        UserError: if there is no such folder or model, or it cannot be fetched.
    """
    folder = local_or_hub(f"the features {features}:", name, description, [CONFIG])
    return fetched_folder(name) if folder is None else folder


class ImageProcessor:
    """Inputs of a network: whole images, resized to squares and normalised, as its folder describes.

    The side and the colours are those of preprocessor_config.json. Images are not cropped, unlike in
    classification, because all of an image is to be scored.

    Args:
        folder: folder of the network.

    Attributes:
        side: side of the inputs.
        rule: normalisation of the pixels in words.

    Raises:
        UserError: if the folder does not describe the inputs.
    """

    def __init__(self, folder: Path):
        path = folder / PROCESSOR
        values = check_values(read_object(path), COLOURS, path)
        self.side = _side(values, path)
        mean, deviation = values["image_mean"], values["image_std"]
        self._mean, self._deviation = (torch.tensor(part).view(3, 1, 1) for part in (mean, deviation))
        self.rule = f"(pixels / 255 - {mean}) / {deviation}"

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return inputs (N, 3, side, side) from pixels (N, 3, H, W) of type uint8."""
        return (bicubic(pixels, self.side) / 255 - self._mean) / self._deviation


def vision_info(name: str, network: nn.Module, processor: ImageProcessor, licence: str) -> FeatureInfo:
    """Return the description of the features of a vision transformer.

    Args:
        name: name of the features, with the architecture.
        network: the network.
        processor: inputs of the network.
        licence: licence of the published weights.
    """
    return FeatureInfo(
        name,
        weights_version(network),
        processor.side,
        "bicubic-antialias",
        "float32",
        f"{licence} (of the published weights)",
        "uint8",
        processor.rule,
    )


def architecture(config: Any) -> str:
    """Return the short name of a vision transformer by width and patch, such as b14."""
    size = SIZES.get(config.hidden_size, f"{config.hidden_size}x{config.num_hidden_layers}-")
    return f"{size}{config.patch_size}"


def _side(values: dict[str, Any], path: Path) -> int:
    """Return the side of the inputs: that of the crop if there is one, else of the resized image."""
    key = "crop_size" if values.get("do_center_crop") and "crop_size" in values else "size"
    size = values.get(key)
    sides = size if isinstance(size, dict) else {"shortest_edge": size}
    accepted = {"height", "width"} if "height" in sides else {"shortest_edge"}
    lengths: set[Any] = {sides.get(name) for name in accepted if SIDE.accepts(sides.get(name))}
    if len(lengths) != 1 or not all(SIDE.accepts(sides.get(name)) for name in accepted):
        raise damage(path, f"{key} must be the side of a square from 1 to {LARGEST_SIDE}, not {shown(size)}")
    return lengths.pop()
