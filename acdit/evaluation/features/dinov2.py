"""Features of DINOv2, a vision transformer that was trained without labels."""

from typing import Any

from torch import Tensor

from ...utils.errors import UserError, require
from ..external_models import load_vision_network
from .extractor import ExtractorRequest, Features
from .image_network import ImageNetworkFeatures, check_colour
from .vision_transformer import ImageProcessor, architecture, network_folder, vision_info


def open_dinov2(request: ExtractorRequest) -> ImageNetworkFeatures:
    """Return the extractor: the normalised output for the class token, (N, F).

    This is the distance's network in arXiv 2306.04675 with facebook/dinov2-large.
    """
    check_colour("dinov2", request.shape)
    library: Any = require("transformers", "text")
    folder = network_folder("dinov2", request.argument, "a model of DINOv2")
    subject = f"the features dinov2:{request.argument}"
    network = load_vision_network(folder, library.Dinov2Model, ("dinov2",), subject)
    processor, patch = ImageProcessor(folder), network.config.patch_size
    if processor.side % patch:
        raise UserError(
            f"{subject} cannot be loaded: its images have {processor.side} pixels a side, no multiple of the "
            f"network's patches of {patch}"
        )
    info = vision_info(f"dinov2-vit-{architecture(network.config)}", network, processor, "Apache-2.0")
    network.to(request.device)

    def compute(inputs: Tensor) -> Features:
        return Features(network(inputs).pooler_output)

    return ImageNetworkFeatures(info, processor, compute, request.device)
