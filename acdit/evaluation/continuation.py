"""How well moving digits go on: errors, centroids and what the judge reads, frame by frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data.moving_digits import Clip, MovingDigits, render
from ..utils.errors import UserError

DARK = -0.9  # pixels below this are background, so that faint noise does not move a centroid


@dataclass(frozen=True)
class Continuations:
    """Held-out clips, and what a model made of their beginnings.

    Attributes:
        data: the held-out clips, of at least as many frames.
        indices: which of them, N.
        made: (N, F, 1, H, W) in [-1, 1], the prefix included.
        prefix: frames that were given.
    """

    data: MovingDigits
    indices: Sequence[int]
    made: Tensor
    prefix: int

    @property
    def clips(self) -> list[Clip]:
        """What the clips show."""
        return [self.data.clip(index) for index in self.indices]

    def real(self) -> Tensor:
        """How the clips go on in truth, (N, F, 1, H, W)."""
        frames = self.made.shape[1]
        return torch.stack(
            [render(self.data.sprites[clip.digit], clip.motion.corners(frames))[0] for clip in self.clips]
        )[:, :, None]

    def extrapolated(self) -> Tensor:
        """The digit moved on as it did between the last two given frames, past any edge: (N, F, 1, H, W)."""
        frames = self.made.shape[1]
        return torch.stack(
            [
                render(self.data.sprites[clip.digit], straight_on(clip, self.prefix, frames))[0]
                for clip in self.clips
            ]
        )[:, :, None]

    def bounces(self, frames: int) -> Tensor:
        """Which clips (N,) meet an edge within so many frames after the prefix."""
        end = self.prefix + frames
        return torch.tensor(
            [
                bool((clip.motion.corners(end) != straight_on(clip, self.prefix, end)).any())
                for clip in self.clips
            ]
        )


def straight_on(clip: Clip, prefix: int, frames: int) -> Tensor:
    """Corners (F, 2): the true ones of the prefix, then on as between its last two frames."""
    corners = clip.motion.corners(frames)
    last, before = corners[prefix - 1], corners[prefix - 2]
    steps = torch.arange(1, frames - prefix + 1)[:, None]
    return torch.cat((corners[:prefix], last + steps * (last - before)))


def score_continuations(
    made: Continuations, read: Callable[[Tensor], Tensor], mean: Tensor, near: int = 8
) -> dict[str, Any]:
    """Scores of continued clips, ready for JSON; squared errors are of pixels in [-1, 1].

    Over the first `near` frames after the prefix, of the clips that meet an edge in them:

    - `bouncing`: how many those are; the others stand under `straight_squared_error`, for which linear
      extrapolation is exact
    - `squared_error`: of the model; `.._black`, `.._mean`, `.._repeated`, `.._extrapolated`: of a black
      frame, the mean of the training pixels, the last given frame, and the digit moved on in a straight line
    - `error_ratio`: the model's over the least of these
    - `centroid_error`: mean distance of the centroids, in pixels

    Over all frames after the prefix, as lists: `by_frame` has `squared_error`, `centroid_error` and `read`,
    the share of clips in whose frame the digit is read that was given; `read_real` is that of the last true
    frame.

    Args:
        made: the clips.
        read: the digits (N,) of frames (N, 1, H, W), as a judge reads them.
        mean: of the training pixels, (H, W).
        near: frames of the first part, or as many as there are.
    """
    real, prefix = made.real(), made.prefix
    near = min(near, real.shape[1] - prefix)
    labels = made.data.labels[list(made.indices)]
    ahead = slice(prefix, prefix + near)
    bounces = made.bounces(near)
    if not bounces.any():
        raise UserError(
            f"none of the {len(real)} clips meets an edge within {near} frames: score more, or more frames"
        )
    guesses = {
        "": made.made,
        "_black": torch.full_like(real, -1.0),
        "_mean": mean.expand_as(real),
        "_repeated": real[:, prefix - 1 : prefix].expand_as(real),
        "_extrapolated": made.extrapolated(),
    }
    errors = {
        name: (guess[bounces, ahead] - real[bounces, ahead]).square().mean().item()
        for name, guess in guesses.items()
    }
    distance = (centroids(made.made) - centroids(real)).norm(dim=-1)  # (N, F)
    straight = (made.made[~bounces, ahead] - real[~bounces, ahead]).square()
    frames = range(prefix, real.shape[1])

    def share(frames: Tensor) -> float:
        return (read(frames) == labels).double().mean().item()

    return {
        "clips": len(real),
        "bouncing": int(bounces.sum()),
        **{f"squared_error{name}": error for name, error in errors.items()},
        "straight_squared_error": straight.mean().item() if straight.numel() else None,
        "error_ratio": errors[""] / min(error for name, error in errors.items() if name),
        "centroid_error": distance[bounces, ahead].mean().item(),
        "read_real": share(real[:, -1]),
        "by_frame": {
            "squared_error": (made.made - real).square().flatten(2).mean((0, 2))[prefix:].tolist(),
            "centroid_error": distance.mean(0)[prefix:].tolist(),
            "read": [share(made.made[:, frame]) for frame in frames],
        },
    }


def centroids(frames: Tensor) -> Tensor:
    """Centre of mass of what is brighter than the background, (.., 1, H, W) -> (.., 2); an empty frame's is
    its middle."""
    mass = (frames.squeeze(-3) - DARK).clamp(min=0).double()
    height, width = mass.shape[-2:]
    rows, columns = torch.arange(height, dtype=mass.dtype), torch.arange(width, dtype=mass.dtype)
    total = mass.sum((-1, -2))
    centre = torch.stack(((mass.sum(-1) * rows).sum(-1), (mass.sum(-2) * columns).sum(-1)), -1)
    middle = torch.tensor([(height - 1) / 2, (width - 1) / 2], dtype=mass.dtype)
    return torch.where(total[..., None] > 0, centre / total.clamp(min=1e-9)[..., None], middle)
