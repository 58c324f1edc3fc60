"""Protocol of feature extractors, and the check of their answers."""

from typing import Protocol

import torch
from torch import Tensor

from ...model.layout import dims
from ...utils.errors import UserError


class FeatureExtractor(Protocol):
    """Callable that computes features of samples, such as `DigitClassifier.features`."""

    def __call__(self, samples: Tensor, /) -> Tensor:
        """Return the features (N, F) of images (N, C, H, W) or clips (N, C, F, H, W) in [-1, 1].

        Raises:
            UserError: if the extractor does not support samples of this shape.
        """
        ...


def checked_features(output: object, source: str, rows: int, width: int | None = None) -> Tensor:
    """Return the answer of a network as features (rows, F) in float32 on the CPU, after checking it.

    Args:
        output: answer of the network, (rows, ..).
        source: name of the network in messages.
        rows: number of samples that the network was called with.
        width: number of features F of earlier answers; None = any.

    Raises:
        UserError: if the answer is not a tensor with one row of finite features for each sample.
    """
    if not isinstance(output, Tensor):
        raise UserError(f"{source} must return one tensor of features, not a {type(output).__name__}")
    if output.layout is not torch.strided or output.is_complex():
        raise UserError(f"{source} must return a dense tensor of real numbers")
    if output.ndim < 2 or len(output) != rows or not output.numel():
        shape = dims(output.shape) if output.ndim else "a single number"
        raise UserError(
            f"{source} must return one row of features for each of {rows} samples, (N, F), not {shape}"
        )
    features = output.flatten(1).float().cpu()
    if width not in (None, features.shape[1]):
        raise UserError(
            f"{source} must return as many features for every batch: {features.shape[1]} follow {width}"
        )
    if not bool(features.isfinite().all()):
        raise UserError(f"{source} returns features that are not finite")
    return features
