"""Protocol of feature extractors, and the check of their answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ...data.tensor_cache import fingerprint
from ...model.layout import dims
from ...utils.errors import UserError


@dataclass(frozen=True)
class FeatureInfo:
    """Description of a feature extractor: everything that its features depend on.

    Attributes:
        name: name of the features, such as `inception`.
        version: version of the network and its weights, such as a digest of the weights.
        input_size: side of the network's input in pixels; None for inputs of any size.
        resizing: rule by which samples are resized to it, such as `bilinear` or `none`.
        precision: type of the computation, such as `float32`.
        licence: licence of the weights.
        pixels: type of the pixels before they are resized: `float32`, or `uint8` if they are rounded to 8
            bits, so that samples score as they do from image files.
        normalisation: what is done with the pixels of the network's input.
    """

    name: str
    version: str
    input_size: int | None
    resizing: str
    precision: str
    licence: str
    pixels: str = "float32"
    normalisation: str = "[-1, 1]"

    def to_json(self) -> dict[str, Any]:
        """Return the description as a value of JSON."""
        return asdict(self)


class Features(NamedTuple):
    """Answer of a feature extractor.

    Attributes:
        values: features (N, F), or (N, K, F) of K parts of a sample, such as the frames of a clip, each of
            which is an item of its own.
        logits: logits of classes (N, K); None for networks that do not classify.
    """

    values: Tensor
    logits: Tensor | None = None


@dataclass(frozen=True)
class ExtractorRequest:
    """Request for a feature extractor.

    Attributes:
        argument: text after the colon of NAME:ARGUMENT; empty if there is none.
        shape: shape of a sample, (C, H, W) or (C, F, H, W); () for texts.
        device: device of the network.
        trust: whether files that are programs may run.
    """

    argument: str
    shape: tuple[int, ...]
    device: torch.device
    trust: bool = False


Batch = TypeVar("Batch", contravariant=True)  # batch of samples: a tensor, or a sequence of texts


class FeatureExtractor(Protocol[Batch]):
    """Network, or another rule, that computes features of samples. One file each in this folder.

    Attributes:
        info: description of the extractor.
        classes: names of the classes of the logits; empty if there are none.
    """

    info: FeatureInfo
    classes: tuple[str, ...]

    def __call__(self, samples: Batch, /) -> Features:
        """Return the features of images (N, C, H, W) or clips (N, C, F, H, W) in [-1, 1], or of N texts.

        The features are on the CPU.

        Raises:
            UserError: if the extractor does not support samples of this shape, or its answer is not finite.
        """
        ...


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute in float32 inside the context, and never in a faster type of less precision in its place.

    Otherwise features would depend on the device by more than rounding.
    """
    convolutions: Any = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), convolutions.allow_tf32
    torch.set_float32_matmul_precision("highest")
    convolutions.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        convolutions.allow_tf32 = before[1]


def weights_version(network: nn.Module) -> str:
    """Return a digest of the weights of a network, as the version of its features."""
    return fingerprint(network.state_dict())[:16]


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
