"""Features of networks that take colour images of one size."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from ...model.layout import dims
from ...utils.errors import UserError
from .extractor import FeatureInfo, Features, checked_features, full_float32

CPU_BATCH = 8  # images per call on the CPU; larger batches do not fit into its caches and take longer
BATCH = 256  # images per call on other devices
TOLERANCE = 1e-3  # how far samples may lie outside [-1, 1] by rounding


class ImageNetworkFeatures:
    """Extractor of a network of colour images of one size.

    Images are rounded to 8 bits, so that samples score as they do from image files. Grey images are repeated
    in three channels.

    Args:
        info: description of the features.
        prepare: function from colour images (N, 3, H, W) of type uint8 to inputs of the network.
        network: function from inputs to features (N, F), and logits (N, K) of classes if it has any.
        device: device of the network.
        classes: names of the classes.
    """

    def __init__(
        self,
        info: FeatureInfo,
        prepare: Callable[[Tensor], Tensor],
        network: Callable[[Tensor], Features],
        device: torch.device,
        classes: tuple[str, ...] = (),
    ):
        self.info, self.classes = info, classes
        self._prepare, self._network, self._device = prepare, network, device

    @torch.inference_mode()
    @full_float32()
    def __call__(self, samples: Tensor, /) -> Features:
        """Return the features of images (N, 1 or 3, H, W) in [-1, 1]; see `FeatureExtractor`."""
        name = self.info.name
        check_colour(name, tuple(samples.shape[1:]))
        parts, logits, width = [], [], None
        for part in samples.split(CPU_BATCH if self._device.type == "cpu" else BATCH):
            pixels = eight_bit(part.to(self._device), name).expand(-1, 3, -1, -1)
            answer = self._network(self._prepare(pixels).to(self._device))
            parts.append(checked_features(answer.values, f"the network {name}", len(part), width))
            width = parts[-1].shape[1]
            if answer.logits is not None:
                logits.append(checked_features(answer.logits, f"the network {name}", len(part)))
        return Features(torch.cat(parts), torch.cat(logits) if logits else None)


def check_colour(name: str, shape: tuple[int, ...]) -> None:
    """Raise UserError if samples of a shape are not grey or colour images (C, H, W)."""
    if len(shape) != 3:
        raise UserError(f"the features {name} are for image, not for video; frames:{name} takes every frame")
    if shape[0] not in (1, 3):
        raise UserError(
            f"the features {name} are for grey or RGB images, not for {shape[0]} channels ({dims(shape)})"
        )


def eight_bit(samples: Tensor, name: str) -> Tensor:
    """Return samples in [-1, 1] rounded to pixels of type uint8.

    Raises:
        UserError: if a value is not finite, or lies outside [-1, 1].
    """
    low, high = (float(bound) for bound in samples.aminmax())
    if not (low >= -1 - TOLERANCE and high <= 1 + TOLERANCE):  # also if they are NaN
        problem = f"from {low:.4g} to {high:.4g}" if low == low else "NaN"
        raise UserError(f"samples for the features {name} must be in [-1, 1], not {problem}")
    return samples.float().add(1).mul(127.5).round_().clamp_(0, 255).to(torch.uint8)


def resized(pixels: Tensor, side: int) -> Tensor:
    """Resize pixels (N, C, H, W) to squares, bilinearly with antialiasing, in float32."""
    return interpolate(pixels.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)


def bicubic(pixels: Tensor, side: int) -> Tensor:
    """Resize pixels (N, C, H, W) to squares as clean-fid does: Pillow, channels in float32, clipped."""
    channels = pixels.flatten(0, 1).cpu().numpy().astype(np.float32)  # (N C, H, W)
    parts = [Image.fromarray(part).resize((side, side), Image.Resampling.BICUBIC) for part in channels]
    scaled = torch.from_numpy(np.stack([np.asarray(part) for part in parts]))
    return scaled.clamp(0, 255).unflatten(0, pixels.shape[:2])
