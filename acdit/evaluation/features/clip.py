"""Features of the images of CLIP, a vision transformer that was trained with captions."""

from typing import Any

from torch import Tensor

from ...utils.errors import UserError, require
from ..external_models import load_vision_network
from .extractor import ExtractorRequest, Features
from .image_network import ImageNetworkFeatures, check_colour
from .vision_transformer import ImageProcessor, architecture, network_folder, vision_info


def open_clip(request: ExtractorRequest) -> ImageNetworkFeatures:
    """Return the extractor: embeddings of images (N, F), before they are normalised.

    The network of CMMD (arXiv 2401.09603) is openai/clip-vit-large-patch14-336.
    """
    check_colour("clip", request.shape)
    library: Any = require("transformers", "text")
    folder = network_folder("clip", request.argument, "a model of CLIP")
    subject = f"the features clip:{request.argument}"
    types = ("clip", "clip_vision_model")
    network = load_vision_network(
        folder, library.CLIPVisionModelWithProjection, types, subject, shared=("projection_dim",)
    )
    processor, side = ImageProcessor(folder), network.config.image_size
    if processor.side != side:
        raise UserError(
            f"{subject} cannot be loaded: its images have {processor.side} pixels a side, but the network "
            f"takes {side}"
        )
    info = vision_info(f"clip-vit-{architecture(network.config)}-{side}", network, processor, "MIT")
    network.to(request.device)

    def compute(inputs: Tensor) -> Features:
        return Features(network(inputs).image_embeds)

    return ImageNetworkFeatures(info, processor, compute, request.device)
