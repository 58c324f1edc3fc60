"""Input of classifiers: clean blocks, or blocks at a fixed noise level as in the protocol for DiT."""

import torch
from torch import Tensor

from ..model.classifier import ACDiTForImageClassification
from ..utils.randomness import generator
from .continuous import DiffusionObjective
from .schedulers import PREDICTIONS


def noised_input(network: ACDiTForImageClassification, blocks: Tensor, noise: Tensor | None = None) -> Tensor:
    """Return the input of a classifier: the clean blocks, or blocks noised to its timestep.

    Args:
        network: the classifier.
        blocks: clean blocks (N, T, B, C).
        noise: noise (N, T, B, C); None = the same for every image, so that results can be repeated.
    """
    timestep, prediction = network.config["timestep"], network.config["prediction_type"]
    if timestep is None:
        return blocks
    if noise is None:
        noise = torch.randn(blocks.shape[1:], generator=generator("classifier noise")).expand(blocks.shape)
    process = DiffusionObjective(PREDICTIONS[prediction])
    times = torch.full(blocks.shape[:2], timestep, device=blocks.device)
    return process.corrupt(blocks, noise.to(blocks.device, blocks.dtype), times)[0]
