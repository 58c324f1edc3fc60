"""Metrics of the nearest neighbours of features (N, F) or flattened images (N, pixels). Pure functions.

All of these metrics depend on the sizes of the sets: compare only values computed at the same sizes.
"""

import torch

from .feature_sets import check_features, chunks

COPY_RATIO = 1 / 3  # Yoon et al. 2023: a copy is three times nearer to one training example than to the next


def coverage_density(real: torch.Tensor, fake: torch.Tensor, k: int = 5) -> tuple[float, float]:
    """Return coverage and density (Naeem et al. 2020, equations 5 and 6) of features (N, F) and (M, F).

    The ball of a real point extends to its k-th nearest real neighbour. Coverage, 0 to 1, is the fraction of
    balls that contain a fake point. Density is the mean number of balls that a fake point lies in, divided by
    k; it is about 1 for fakes that are distributed like the real points.
    """
    check_features(k + 1, real)
    check_features(1, real, fake)
    covered = inside = 0
    for part in chunks(real, "coverage and density"):
        radius = distances(part, real).kthvalue(k + 1, dim=1, keepdim=True).values  # (n, 1), itself included
        within = distances(part, fake) < radius  # (n, M)
        covered += int(within.any(dim=1).sum())
        inside += int(within.sum())
    return covered / len(real), inside / (k * len(fake))


def precision_recall(real: torch.Tensor, fake: torch.Tensor, k: int = 3) -> tuple[float, float]:
    """Return improved precision and recall (arXiv 1904.06991) of features (N, F) and (M, F).

    The balls of a set extend from each of its points to the k-th nearest other one, the surface included.
    Precision is the fraction of the fake points that lie in a ball of the real ones; recall is the fraction
    of the real points that lie in a ball of the fake ones.
    """
    check_features(k + 1, real, fake)
    return _inside(fake, real, k), _inside(real, fake, k)


def _inside(points: torch.Tensor, centres: torch.Tensor, k: int) -> float:
    """Return the fraction of points in the balls around centres."""
    inside = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for part in chunks(centres, "precision or recall"):
        radius = distances(part, centres).kthvalue(k + 1, dim=1, keepdim=True).values  # itself included
        inside |= (distances(part, points) <= radius).any(dim=0)
    return float(inside.double().mean())


def nearest_ratio(samples: torch.Tensor, train: torch.Tensor, held_out: torch.Tensor) -> float:
    """Return the ratio of the distances of samples to the nearest training and held-out examples.

    The ratio is the mean distance to the nearest training example over that to the nearest held-out one. 1
    means no memorisation; less than 1 means that samples lie nearer to the training data. The larger set is
    cut to the size of the smaller by `spread`, since the nearest of more examples is nearer. Therefore,
    only a quarter of a training set that is four times as large is used, and full copying of the training set
    still leaves a ratio of about 3/4; `copied_share` uses the whole set. The mean is used, not the median, so
    that a few copies show. Each set is (N, F).
    """
    check_features(1, samples, train, held_out)
    size = min(len(train), len(held_out))
    to_train, to_held_out = (_nearest(samples, spread(part, size), 1).mean() for part in (train, held_out))
    # if the samples are the held-out examples themselves, the ratio is huge, but JSON can hold it
    return float(to_train / to_held_out.clamp(min=torch.finfo(torch.float64).eps))


def copied_share(samples: torch.Tensor, train: torch.Tensor) -> float:
    """Return the fraction of samples (N, F) that are copies of a training example (M, F).

    A copy is three times nearer to one training example than to any other.
    """
    check_features(1, samples, train)
    check_features(2, train)
    first, second = _nearest(samples, train, 2).unbind(dim=1)
    return float((first < COPY_RATIO * second).double().mean())


def spread(rows: torch.Tensor, size: int) -> torch.Tensor:
    """Return `size` of the rows at even steps, so that a set sorted by class keeps its proportions."""
    return rows[torch.arange(size, device=rows.device) * len(rows) // size]


def _nearest(samples: torch.Tensor, examples: torch.Tensor, count: int) -> torch.Tensor:
    """Return the distances to the nearest examples in ascending order, (N, count)."""
    parts = chunks(samples, "nearest examples")
    return torch.cat([distances(part, examples).topk(count, largest=False).values for part in parts])


def distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the distances in float64 of a few rows (n, F) to all rows of a set (M, F), (n, M)."""
    return torch.cat([torch.cdist(a, part) for part in chunks(b)], dim=1)
