"""Protocol of feature extractors."""

from typing import Protocol

from torch import Tensor


class FeatureExtractor(Protocol):
    """Callable that computes features of samples, such as `DigitClassifier.features`."""

    def __call__(self, samples: Tensor, /) -> Tensor:
        """Return the features (N, F) of images (N, C, H, W) or clips (N, C, F, H, W) in [-1, 1].

        Raises:
            UserError: if the extractor does not support samples of this shape.
        """
        ...
