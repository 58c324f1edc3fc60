"""Faults of samples that a metric should see, or should not, at five strengths."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

Effect = Callable[[Tensor, float, torch.Generator], Tensor]


@dataclass(frozen=True)
class Fault:
    """A fault of samples.

    Attributes:
        strengths: five strengths, ascending.
        unit: meaning of a strength.
        changes: function of pictures (N, C, H, W) in [-1, 1], a strength and a generator that damages them;
            None if the pictures stay as they are.
        draws: function of labels (N,), a strength, the number of samples and a generator that chooses which
            pictures are drawn, as indices; None = equally many of each class.
    """

    strengths: tuple[float, ...]
    unit: str
    changes: Effect | None = None
    draws: Callable[[Tensor, float, int, torch.Generator], Tensor] | None = None


def blurred(images: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Blur images with a Gaussian of a standard deviation in pixels."""
    del random
    radius = math.ceil(3 * strength)
    kernel = torch.exp(-(torch.arange(-radius, radius + 1).float() ** 2) / (2 * strength**2))
    kernel /= kernel.sum()
    rows = pad(images.flatten(0, 1)[:, None], (radius,) * 4, mode="reflect")
    return conv2d(conv2d(rows, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[:, 0].view(images.shape)


def noised(images: Tensor, strength: float, random: torch.Generator) -> Tensor:
    """Add Gaussian noise of a standard deviation, within [-1, 1]."""
    return (images + strength * torch.randn(images.shape, generator=random)).clamp(-1, 1)


def balanced(labels: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Draw equally many items of each class."""
    return _drawn(labels, torch.ones(int(labels.max()) + 1), count, random)


def imbalanced(labels: Tensor, strength: float, count: int, random: torch.Generator) -> Tensor:
    """Draw items of classes whose frequencies decrease evenly in ratio, by `strength` from first to last."""
    steps = torch.linspace(0, 1, int(labels.max()) + 1)
    return _drawn(labels, strength**-steps, count, random)


def dropped(labels: Tensor, strength: float, count: int, random: torch.Generator) -> Tensor:
    """Draw equally many items of all classes but `strength` ones."""
    weights = torch.ones(int(labels.max()) + 1)
    weights[: round(strength)] = 0
    return _drawn(labels, weights, count, random)


def duplicated(labels: Tensor, strength: float, count: int, random: torch.Generator) -> Tensor:
    """Draw items of which a fraction are copies of the other ones."""
    distinct = balanced(labels, count, random)
    kept = round((1 - strength) * count)
    copies = torch.randint(kept, (count - kept,), generator=random)
    return torch.cat([distinct[:kept], distinct[copies]])


FAULTS: dict[str, Fault] = {
    "blur": Fault((0.3, 0.5, 0.8, 1.2, 2.0), "standard deviation in pixels", changes=blurred),
    "noise": Fault((0.05, 0.1, 0.2, 0.4, 0.8), "standard deviation, of pixels in [-1, 1]", changes=noised),
    "class imbalance": Fault(
        (1.5, 2, 4, 8, 16), "most frequent class / least frequent one", draws=imbalanced
    ),
    "dropped classes": Fault((1, 2, 3, 5, 7), "classes out of 10", draws=dropped),
    "duplicates": Fault((0.1, 0.25, 0.5, 0.75, 0.9), "fraction of the samples", draws=duplicated),
}


def _drawn(labels: Tensor, weights: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Draw different items of classes, in random order, in proportion to weights that are permuted."""
    weights = weights[torch.randperm(len(weights), generator=random)]
    bounds = (weights.cumsum(0) / weights.sum() * count).round().long().tolist()
    rows = []
    for label, (first, last) in enumerate(zip([0, *bounds], bounds, strict=False)):
        items = (labels == label).nonzero().flatten()
        rows.append(items[torch.randperm(len(items), generator=random)[: last - first]])
    drawn = torch.cat(rows)
    return drawn[torch.randperm(len(drawn), generator=random)]
