"""Extractor of features of a classifier that was fitted here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ...data.digits import LABEL_NAMES
from ...model.layout import dims
from ...utils.errors import UserError
from .extractor import FeatureInfo, Features, checked_features, full_float32, weights_version


class FittedFeatures:
    """Extractor of a classifier of digits: its last hidden layer, and the logits of the digits.

    Args:
        name: name of the features.
        network: the classifier.
        hidden: function of the network that computes its last hidden layer, (N, F).
        head: layer of the network that computes the logits from it.
        shape: shape of a sample that it was fitted to, (C, H, W) or (C, F, H, W).
        device: device of the network.
    """

    classes: tuple[str, ...] = LABEL_NAMES

    def __init__(
        self,
        name: str,
        network: nn.Module,
        hidden: Callable[[Tensor], Tensor],
        head: nn.Module,
        shape: tuple[int, ...],
        device: torch.device,
    ):
        network.to(device)
        self._hidden, self._head, self._shape, self._device = hidden, head, tuple(shape), device
        self.info = FeatureInfo(name, weights_version(network), shape[-1], "none", "float32", "fitted here")

    @torch.inference_mode()
    @full_float32()
    def __call__(self, samples: Tensor, /) -> Features:
        """Return the features (N, F) and logits (N, 10) of samples in [-1, 1]."""
        if tuple(samples.shape[1:]) != self._shape:
            raise UserError(
                f"the network of the features {self.info.name} was fitted to samples of "
                f"{dims(self._shape)}, not {dims(samples.shape[1:])}"
            )
        features = self._hidden(samples.to(self._device))
        logits = self._head(features).cpu()
        return Features(checked_features(features, f"the network of {self.info.name}", len(samples)), logits)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread inside the context, so that a fit is the same whatever their number.

    Sums are rounded otherwise when several threads share them, and a fit of hundreds of steps amplifies that.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
