"""Input of classifiers: clean blocks, or blocks at a fixed noise level as in the protocol for DiT."""

import torch
from torch import Tensor

from ..model.classifier import ACDiTForImageClassification
from ..utils.errors import UserError
from ..utils.randomness import generator
from .continuous import DiffusionObjective
from .schedulers import PREDICTIONS


def noise_process(network: ACDiTForImageClassification) -> DiffusionObjective | None:
    """Return the noise process of a classifier's input, which is that of its generator; None for clean input.

    Raises:
        UserError: if it is not recorded how the generator noised its blocks.
    """
    if network.config["timestep"] is None:
        return None
    prediction = network.config["prediction_type"]
    if prediction not in PREDICTIONS:
        raise UserError(
            f"noised input needs the prediction_type of the generator, one of {', '.join(PREDICTIONS)}, not "
            f"{prediction}"
        )
    return DiffusionObjective(PREDICTIONS[prediction])


def noised_input(network: ACDiTForImageClassification, blocks: Tensor, noise: Tensor | None = None) -> Tensor:
    """Return the input of a classifier: the clean blocks, or blocks noised to its timestep.

    Args:
        network: the classifier.
        blocks: clean blocks (N, T, B, C).
        noise: noise (N, T, B, C); None = the same for every image, so that results can be repeated.

    Raises:
        UserError: if it is not recorded how the generator noised its blocks.
    """
    process = noise_process(network)
    if process is None:
        return blocks
    if noise is None:
        noise = torch.randn(blocks.shape[1:], generator=generator("classifier noise")).expand(blocks.shape)
    times = torch.full(blocks.shape[:2], network.config["timestep"], device=blocks.device)
    return process.corrupt(blocks, noise.to(blocks.device, blocks.dtype), times)[0]
