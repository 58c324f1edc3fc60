"""Scores of generated clips beside what real clips score."""

from collections.abc import Sequence

from torch import Tensor

from ..metrics.distances import coverage_density, frechet
from .features.digit_classifier import Judge
from .features.extractor import FeatureExtractor

K = 5  # neighbours of coverage and density


def score_clips(
    clips: Tensor,
    labels: Tensor,
    *,
    train: Tensor,
    held_out: Tensor,
    features: FeatureExtractor,
    judge: Judge,
) -> dict[str, float]:
    """Scores of clips (N, C, F, H, W) in [-1, 1], ready for JSON; compare only scores of as many clips.

    - `label_accuracy`: share of the clips that show the digit that was asked for, as the judge reads most of
      their frames
    - `frechet_video_distance`: of the clips to held-out ones, on features of clips; lower is better
    - `frechet_frame_distance`: of their frames, on features of the judge of frames
    - `coverage`, `density`: of the held-out clips, on features of clips; see `coverage_density`
    - `.._real`: the same for as many training clips in place of the samples; samples can reach it

    Args:
        clips: as many as `train` and `held_out`.
        labels: (N,), that the clips were asked for, and those of the held-out ones.
        train, held_out: real clips.
        features: of clips.
        judge: of frames.
    """
    found, real, training = features(clips), features(held_out), features(train)
    coverage, density = coverage_density(real, found, K)
    coverage_real, density_real = coverage_density(real, training, K)
    frames, frames_real, frames_train = (judge.features(_frames(part)) for part in (clips, held_out, train))
    return {
        "clips": len(clips),
        "label_accuracy": _read(judge, clips, labels),
        "label_accuracy_real": _read(judge, held_out, labels),
        "frechet_video_distance": frechet(found, real),
        "frechet_video_distance_real": frechet(training, real),
        "frechet_frame_distance": frechet(frames, frames_real),
        "frechet_frame_distance_real": frechet(frames_train, frames_real),
        "coverage": coverage,
        "coverage_real": coverage_real,
        "density": density,
        "density_real": density_real,
    }


def drift(
    rollouts: Tensor, real: Tensor, features: FeatureExtractor, span: int, starts: Sequence[int]
) -> list[float]:
    """Fréchet video distance of parts of long clips (N, C, F, H, W), `span` frames from each start."""
    return [
        frechet(features(rollouts[:, :, start : start + span]), features(real[:, :, start : start + span]))
        for start in starts
    ]


def _read(judge: Judge, clips: Tensor, labels: Tensor) -> float:
    digits = judge.predict(_frames(clips)).unflatten(0, (len(clips), -1)).mode(dim=1).values
    return (digits == labels).double().mean().item()


def _frames(clips: Tensor) -> Tensor:
    return clips.transpose(1, 2).flatten(0, 1)  # (N F, C, H, W)
