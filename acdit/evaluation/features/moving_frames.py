"""Features of the frames of moving digits, and the digit that most frames of a clip show."""

import torch
from torch import Tensor

from ...data.digits import LABEL_NAMES
from ...data.moving_digits import LARGE, MovingDigits, Scene
from ...model.layout import dims
from ...utils.errors import UserError
from .digit_classifier import DigitClassifier, load_digit_classifier
from .extractor import FeatureInfo, Features, checked_features, weights_version

FRAMES = 5  # number of frames of each training digit that the classifier is trained on


class FrameClassifier:
    """Classifier of the frames of moving digits, as an extractor of clips.

    Each frame gives features of its own. The logits of a clip are the numbers of its frames in which each
    digit is recognised, so that its most likely class is the most frequent one.

    Args:
        classifier: classifier of frames.
        mean: mean of the training frames, (H, W).

    Attributes:
        mean: mean of the training frames, (H, W).
    """

    classes: tuple[str, ...] = LABEL_NAMES

    def __init__(self, classifier: DigitClassifier, mean: Tensor) -> None:
        self._classifier, self.mean, self._side = classifier, mean, mean.shape[-1]
        self.info = FeatureInfo(
            "moving-frames", weights_version(classifier), self._side, "none", "float32", "fitted here"
        )

    def predict(self, frames: Tensor) -> Tensor:
        """Return the most likely digits (N,) of frames (N, 1, H, W) in [-1, 1]."""
        return self._classifier.predict(frames)

    @torch.inference_mode()
    def __call__(self, samples: Tensor, /) -> Features:
        """Return the features (N, K, 64) of the K frames, and the logits (N, 10), of clips in [-1, 1]."""
        sides = (self._side, self._side)
        if samples.ndim != 5 or tuple(samples.shape[3:]) != sides or samples.shape[1] != 1:
            raise UserError(
                f"the features moving-frames are for grey clips of {dims(sides)} pixels, not of "
                f"{dims(samples.shape[1:])}"
            )
        features = self._classifier.features(samples.transpose(1, 2).flatten(0, 1))  # (N K, 64)
        digits = self._classifier.head(features).argmax(dim=1).unflatten(0, (len(samples), -1))  # (N, K)
        votes = torch.nn.functional.one_hot(digits, len(LABEL_NAMES)).sum(dim=1).float()
        checked = checked_features(features, "the classifier of frames", len(features))
        return Features(checked.unflatten(0, (len(samples), -1)), votes)


def load_frame_classifier(scene: Scene = LARGE) -> FrameClassifier:
    """Return the classifier that was fitted to first frames of training clips, each at its own position."""
    training = MovingDigits(1, scene=scene)
    rows = range(0, len(training), scene.paths // FRAMES)
    frames = torch.stack([training.decode(index)[:, 0] for index in rows])
    labels = training.labels[list(rows)]
    return FrameClassifier(load_digit_classifier(frames, labels), frames.mean((0, 1)))
