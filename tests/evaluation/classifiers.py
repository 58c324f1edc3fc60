"""Tiny classifiers with random weights, and images for them."""

from typing import Any

import torch

from acdit.data.dataset import InMemoryDataset
from acdit.model.classifier import ACDiTForImageClassification
from acdit.pipelines.classification import ACDiTImageClassificationPipeline
from tests.tiny import randomise

NAMES = ("ash", "beech", "cedar", "dogwood", "elm", "fir", "gum")
PROBES: dict[str, Any] = {"layers": [0, 1, 2, 1, 2], "pooling": [*["mean"] * 3, *["attention"] * 2]}


def tiny_classifier(names=NAMES, dtype=torch.float64, **config: Any) -> ACDiTImageClassificationPipeline:
    """A classifier of images 6x6 in colour, all of whose weights are random."""
    sizes = {"in_channels": 3, "axis_lengths": (6, 6), "num_layers": 2, "hidden_size": 32, "num_heads": 2}
    network = ACDiTForImageClassification(num_labels=len(names), **(sizes | config))
    randomise(network)
    torch.nn.Module.to(network.eval(), dtype)
    return ACDiTImageClassificationPipeline(
        network,
        grid=[6, 6],
        block=[6, 6] if "timestep" in config else [3, 3],
        patch=[1, 1],
        id2label=dict(enumerate(names)),
    )


def labelled_pictures(count=11, names=NAMES, side=6) -> InMemoryDataset:
    """Random images in colour, with classes."""
    source = torch.Generator().manual_seed(3)
    images = torch.rand(count, 3, side, side, generator=source) * 2 - 1
    return InMemoryDataset(images, torch.arange(count) % len(names), tuple(names))
