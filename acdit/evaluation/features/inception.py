"""Features of the Inception network of the FID literature, as torch-fidelity implements it."""

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...data.tensor_cache import cache_folder
from ...utils.downloads import fetch
from ...utils.errors import require
from ...utils.references import load_submodule
from .extractor import ExtractorRequest, FeatureInfo, Features, weights_version
from .image_network import ImageNetworkFeatures, bicubic, check_colour
from .stored_weights import load_weights

SIDE = 299
EXPECTED = "the file of Inception weights of torch-fidelity"
# Layers before the classifier, in the order of the computation.
LAYERS = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1"),
    *("Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d"),
    *("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)


def open_inception(request: ExtractorRequest) -> ImageNetworkFeatures:
    """Return the extractor with the bilinear resizing of TensorFlow 1, as in the FID of most papers."""
    check_colour("inception", request.shape)
    resize = fidelity("interpolate_compat_tensorflow").interpolate_bilinear_2d_like_tensorflow1x

    def prepare(pixels: Tensor) -> Tensor:
        return normalised(resize(pixels.float(), size=(SIDE, SIDE), align_corners=False))

    return _open(request, "inception", "bilinear-tensorflow1", prepare)


def open_inception_antialias(request: ExtractorRequest) -> ImageNetworkFeatures:
    """Return the extractor with bicubic resizing with antialiasing, as in clean-fid (arXiv 2104.11222)."""
    check_colour("inception-antialias", request.shape)

    def prepare(pixels: Tensor) -> Tensor:
        return normalised(bicubic(pixels, SIDE))

    return _open(request, "inception-antialias", "bicubic-antialias", prepare)


def normalised(pixels: Tensor) -> Tensor:
    """Return inputs of the network from pixels in [0, 255]."""
    return (pixels - 128) / 128


@cache
def fidelity(name: str) -> ModuleType:
    """Return a module of torch-fidelity, whose package needs torchvision, which is not needed here.

    Raises:
        UserError: if torch-fidelity is not installed.
    """
    try:
        return load_submodule("torch_fidelity", name)
    except ModuleNotFoundError as missing:
        if missing.name != "torch_fidelity":
            raise
        return require("torch_fidelity", "inception")  # raises the error that names the extra


def find_weights(argument: str) -> Path:
    """Return the file of weights: the given one, else the one in a cache, else it is fetched.

    Raises:
        UserError: if it cannot be fetched.
    """
    if argument:
        return Path(argument).expanduser()
    url: str = fidelity("feature_extractor_inceptionv3").URL_INCEPTION_V3
    name = url.rpartition("/")[2]
    caches = (cache_folder(), Path(torch.hub.get_dir()) / "checkpoints")
    path = next((folder / name for folder in caches if (folder / name).is_file()), None)
    if path is None:
        path = caches[0] / name
        digest = path.stem.rpartition("-")[2]
        fetch(url, path, digest, f"get {name} from there by other means and give the file: inception:FILE")
    return path


def _open(
    request: ExtractorRequest, name: str, resizing: str, prepare: Callable[[Tensor], Tensor]
) -> ImageNetworkFeatures:
    network = _network()
    load_weights(network, find_weights(request.argument), EXPECTED)
    info = FeatureInfo(
        name,
        weights_version(network),
        SIDE,
        resizing,
        "float32",
        "Apache-2.0",
        "uint8",
        "(pixels - 128) / 128",
    )
    network.to(request.device, memory_format=torch.channels_last)  # half as fast again on the CPU

    def compute(inputs: Tensor) -> Features:
        """Return the averages of the last layer (N, 2048), and logits (N, 1008) without bias."""
        values = inputs
        for layer in LAYERS:
            values = getattr(network, layer)(values)
        features = values.flatten(1)
        return Features(features, features @ network.fc.weight.T)

    def prepare_fast(pixels: Tensor) -> Tensor:
        return prepare(pixels).contiguous(memory_format=torch.channels_last)

    return ImageNetworkFeatures(info, prepare_fast, compute, request.device)


def _network() -> Any:
    """Return torch-fidelity's network without weights: its constructor would execute pickles in a file."""
    library: Any = fidelity("feature_extractor_inceptionv3")

    class Unloaded(library.FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
            """Load the weights that are there; the constructor loads none."""
            del strict
            return super().load_state_dict(state_dict, strict=False, assign=assign)

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    return Unloaded("inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=nothing)
