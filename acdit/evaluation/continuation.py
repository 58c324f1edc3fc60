"""Scores of continued moving digits, frame by frame: errors, centroids and recognised digits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.moving_digits import Clip, MovingDigits
from ..utils.errors import UserError
from .report import Report, Score, Series

DARK = -0.9  # pixels below this value are background, so that faint noise does not move a centroid


@dataclass(frozen=True)
class Continuations:
    """Held-out clips, and their first frames as continued by a model.

    Attributes:
        data: held-out clips, with at least as many frames as the continued ones.
        indices: indices of the N clips that were continued.
        continued: continued clips (N, F, 1, H, W) in [-1, 1], including the prefix.
        prefix: number of given frames.
    """

    data: MovingDigits
    indices: Sequence[int]
    continued: Tensor
    prefix: int

    @property
    def clips(self) -> list[Clip]:
        """Return the digits and motions of the clips."""
        return [self.data.clip(index) for index in self.indices]

    def real(self) -> Tensor:
        """Return the true frames of the clips, (N, F, 1, H, W)."""
        frames = self.continued.shape[1]
        return torch.stack(
            [self.data.render(clip.digit, clip.motion.corners(frames))[0] for clip in self.clips]
        )[:, :, None]

    def extrapolated(self) -> Tensor:
        """Return the clips continued by linear extrapolation of the digit's motion, (N, F, 1, H, W).

        The digit moves on as it did between the last two given frames, even past the border.
        """
        frames = self.continued.shape[1]
        return torch.stack(
            [
                self.data.render(clip.digit, extrapolated_corners(clip, self.prefix, frames))[0]
                for clip in self.clips
            ]
        )[:, :, None]

    def bounces(self, frames: int) -> Tensor:
        """Return a mask (N,) of the clips that reach the border within `frames` frames after the prefix."""
        end = self.prefix + frames
        return torch.tensor(
            [
                bool((clip.motion.corners(end) != extrapolated_corners(clip, self.prefix, end)).any())
                for clip in self.clips
            ]
        )


def extrapolated_corners(clip: Clip, prefix: int, frames: int) -> Tensor:
    """Return corners (F, 2): the true ones of the prefix, then extrapolated from its last two frames."""
    corners = clip.motion.corners(frames)
    last, before = corners[prefix - 1], corners[prefix - 2]
    steps = torch.arange(1, frames - prefix + 1)[:, None]
    return torch.cat((corners[:prefix], last + steps * (last - before)))


def continuation_report(
    continuations: Continuations, recognise: Callable[[Tensor], Tensor], mean: Tensor, near: int = 8
) -> Report:
    """Return scores and series of continued clips; squared errors are of pixels in [-1, 1].

    These scores cover the first `near` frames after the prefix, for the clips that reach the border in them;
    the setting `bouncing` is their number:

    - `squared_error`: error of the model; `.._black`, `.._mean`, `.._repeated`, `.._extrapolated`: errors of
      a black frame, the mean of the training pixels, the last given frame, and the digit moved on in a
      straight line
    - `error_ratio`: error of the model over the smallest of the other errors
    - `centroid_error`: mean distance of the centroids, in pixels
    - `straight_squared_error`: error for the other clips, for which linear extrapolation is exact; left out
      if there are none

    These series cover all frames after the prefix: `squared_error`, `centroid_error`, and `read`, the
    fraction of clips in whose frame the given digit is recognised. The score `read_last` is this fraction for
    the last frame, beside that of the last true frame.

    Args:
        continuations: continued clips.
        recognise: function that recognises the digits (N,) of frames (N, 1, H, W), such as a classifier.
        mean: mean of the training pixels, (H, W).
        near: number of frames of the first part, or all frames if there are fewer.

    Raises:
        UserError: if none of the clips reaches the border within `near` frames.
    """
    real, prefix = continuations.real(), continuations.prefix
    near = min(near, real.shape[1] - prefix)
    labels = continuations.data.labels[list(continuations.indices)]
    ahead = slice(prefix, prefix + near)
    bounces = continuations.bounces(near)
    if not bounces.any():
        raise UserError(
            f"none of the {len(real)} clips reaches the border within {near} frames: "
            "score more clips or more frames"
        )
    predictions = {
        "": continuations.continued,
        "_black": torch.full_like(real, -1.0),
        "_mean": mean.expand_as(real),
        "_repeated": real[:, prefix - 1 : prefix].expand_as(real),
        "_extrapolated": continuations.extrapolated(),
    }
    errors = {
        name: (prediction[bounces, ahead] - real[bounces, ahead]).square().mean().item()
        for name, prediction in predictions.items()
    }
    distance = (centroids(continuations.continued) - centroids(real)).norm(dim=-1)  # (N, F)
    straight_errors = (continuations.continued[~bounces, ahead] - real[~bounces, ahead]).square()
    frames = range(prefix, real.shape[1])

    def recognised_fraction(frames: Tensor) -> float:
        return (recognise(frames) == labels).double().mean().item()

    read = [recognised_fraction(continuations.continued[:, frame]) for frame in frames]
    values = {
        **{f"squared_error{name}": error for name, error in errors.items()},
        "error_ratio": errors[""] / min(error for name, error in errors.items() if name),
        "centroid_error": distance[bounces, ahead].mean().item(),
    }
    if straight_errors.numel():
        values["straight_squared_error"] = straight_errors.mean().item()
    scores = [Score(name, value, samples=len(real)) for name, value in values.items()]
    last = Score("read_last", read[-1], None, recognised_fraction(real[:, -1]), "higher", len(real))
    by_frame = {
        "squared_error": (continuations.continued - real).square().flatten(2).mean((0, 2))[prefix:].tolist(),
        "centroid_error": distance.mean(0)[prefix:].tolist(),
        "read": read,
    }
    series = [Series(name, "frame", tuple(frames), tuple(line)) for name, line in by_frame.items()]
    return Report((*scores, last), tuple(series), settings={"bouncing": int(bounces.sum())})


def centroids(frames: Tensor) -> Tensor:
    """Return the centre of mass of pixels brighter than the background, (.., 1, H, W) -> (.., 2).

    For an empty frame it is the middle of the frame.
    """
    mass = (frames.squeeze(-3) - DARK).clamp(min=0).double()
    height, width = mass.shape[-2:]
    rows, columns = torch.arange(height, dtype=mass.dtype), torch.arange(width, dtype=mass.dtype)
    total = mass.sum((-1, -2))
    centre = torch.stack(((mass.sum(-1) * rows).sum(-1), (mass.sum(-2) * columns).sum(-1)), -1)
    middle = torch.tensor([(height - 1) / 2, (width - 1) / 2], dtype=mass.dtype)
    return torch.where(total[..., None] > 0, centre / total.clamp(min=1e-9)[..., None], middle)
