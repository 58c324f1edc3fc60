"""Scores of generated clips, beside the scores of real clips."""

from collections.abc import Sequence

from torch import Tensor

from ..metrics.distances import frechet
from ..metrics.neighbours import coverage_density
from .features.digit_classifier import DigitClassifier
from .features.extractor import FeatureFunction

K = 5  # number of neighbours for coverage and density


def score_clips(
    clips: Tensor,
    labels: Tensor,
    *,
    train: Tensor,
    held_out: Tensor,
    features: FeatureFunction,
    classifier: DigitClassifier,
) -> dict[str, float]:
    """Return scores of clips (N, C, F, H, W) in [-1, 1], ready for JSON.

    Compare only scores of equal numbers of clips.

    - `label_accuracy`: fraction of the clips that show the requested digit, according to the classifier's
      most frequent prediction over their frames
    - `frechet_video_distance`: distance of the clips to held-out ones, on features of clips; lower is better
    - `frechet_frame_distance`: distance of their frames, on features of the frame classifier
    - `coverage`, `density`: coverage and density of the held-out clips, on features of clips; see
      `coverage_density`
    - `.._real`: the same for an equal number of training clips in place of the samples; samples can reach it

    Args:
        clips: generated clips, as many as in `train` and in `held_out`.
        labels: labels (N,) that were requested, which are those of the held-out clips.
        train: real clips of the training set.
        held_out: real clips of the held-out set.
        features: extractor of features of clips.
        classifier: classifier of frames.
    """
    generated, real, training = features(clips), features(held_out), features(train)
    coverage, density = coverage_density(real, generated, K)
    coverage_real, density_real = coverage_density(real, training, K)
    frames, frames_real, frames_train = (
        classifier.features(_frames(part)) for part in (clips, held_out, train)
    )
    return {
        "clips": len(clips),
        "label_accuracy": _label_accuracy(classifier, clips, labels),
        "label_accuracy_real": _label_accuracy(classifier, held_out, labels),
        "frechet_video_distance": frechet(generated, real),
        "frechet_video_distance_real": frechet(training, real),
        "frechet_frame_distance": frechet(frames, frames_real),
        "frechet_frame_distance_real": frechet(frames_train, frames_real),
        "coverage": coverage,
        "coverage_real": coverage_real,
        "density": density,
        "density_real": density_real,
    }


def drift(
    rollouts: Tensor, real: Tensor, features: FeatureFunction, span: int, starts: Sequence[int]
) -> list[float]:
    """Return the Fréchet video distances of parts of long clips (N, C, F, H, W) to real parts.

    Each part has `span` frames from one of the starts, and is compared with the same frames of `real`.
    """
    return [
        frechet(features(rollouts[:, :, start : start + span]), features(real[:, :, start : start + span]))
        for start in starts
    ]


def _label_accuracy(classifier: DigitClassifier, clips: Tensor, labels: Tensor) -> float:
    digits = classifier.predict(_frames(clips)).unflatten(0, (len(clips), -1)).mode(dim=1).values
    return (digits == labels).double().mean().item()


def _frames(clips: Tensor) -> Tensor:
    return clips.transpose(1, 2).flatten(0, 1)  # (N F, C, H, W)
