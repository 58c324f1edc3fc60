"""Features of the frames of clips."""

from dataclasses import replace

import torch
from torch import Tensor

from ...utils.errors import UserError
from .extractor import ExtractorRequest, FeatureExtractor, Features
from .table import open_extractor


class FrameFeatures:
    """Extractor of clips that computes features of every frame.

    Each frame is an item of its own, so that metrics compare sets of frames and do not see motion.

    Args:
        images: extractor of images.
    """

    classes: tuple[str, ...] = ()  # the labels of clips are not those of frames

    def __init__(self, images: FeatureExtractor):
        self._images = images
        self.info = replace(images.info, name=f"frames:{images.info.name}")

    def __call__(self, samples: Tensor, /) -> Features:
        """Return the features (N, K, F) of the K frames of clips (N, C, K, H, W) in [-1, 1]."""
        if samples.ndim != 5:
            raise UserError(f"the features {self.info.name} are for video, not for image")
        frames = samples.transpose(1, 2).flatten(0, 1)  # (N K, C, H, W)
        parts = [self._images(part).values for part in frames.split(max(1, len(samples)))]
        return Features(torch.cat(parts).unflatten(0, (len(samples), -1)))


def open_frames(request: ExtractorRequest) -> FrameFeatures:
    """Return the extractor that applies the extractor of images that the argument names."""
    channels, _, height, width = request.shape
    return FrameFeatures(
        open_extractor(request.argument, (channels, height, width), request.device, trust=request.trust)
    )
