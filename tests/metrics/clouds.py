"""Random sets of features for the tests of metrics."""

import numpy as np
import torch


def cloud(count: int, seed: int, width: int = 6) -> torch.Tensor:
    """Correlated Gaussian points, (count, width) float32."""
    random = np.random.default_rng(seed)
    points = random.normal(size=(count, width)) @ random.normal(size=(width, width)) + random.normal(
        size=width
    )
    return torch.from_numpy(points).float()
