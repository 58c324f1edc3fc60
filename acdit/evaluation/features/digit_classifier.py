"""Independent convolutional classifier of small images, fitted to a training set."""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import cross_entropy, pad

from ...data.tensor_cache import cached_tensors, fingerprint

VERSION = 1  # increase it when the network or its fitting changes, so that no old weights are used

FEATURES = 64
STEPS = 400
BATCH = 64
LEARNING_RATE = 3e-3
SHIFT = 1 / 12  # largest shift in training, as a fraction of the side: one pixel of 8, three of 32


class Judge(nn.Module):
    """Classifier of images (N, C, edge, edge) in [-1, 1] whose last hidden layer provides features."""

    def __init__(self, edge: int, channels: int, classes: int) -> None:
        super().__init__()
        stages = max(1, round(math.log2(edge / 4)))  # each halves the side, down to 4
        widths = [channels, 32, *[64] * stages]
        layers: list[nn.Module] = []
        for stage, (width, wider) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(width, wider, 3, padding=1), nn.BatchNorm2d(wider), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if stage < stages else [nn.AdaptiveMaxPool2d(4)]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, FEATURES), nn.ReLU())
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (N, classes)."""
        return self.head(self.trunk(images))

    @torch.inference_mode()
    def features(self, images: torch.Tensor, batch: int = 500) -> torch.Tensor:
        """Return the output of the last hidden layer: (N, C, H, W) in [-1, 1] -> (N, F)."""
        return torch.cat([self.trunk(part) for part in images.split(batch)])

    @torch.inference_mode()
    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Return the most likely labels: (N, C, H, W) in [-1, 1] -> (N,)."""
        return self.head(self.features(images)).argmax(dim=1)


def fit_judge(images: torch.Tensor, labels: torch.Tensor, *, seed: int = 0) -> Judge:
    """Fit a classifier to images (N, C, H, W) in [-1, 1] and labels (N,), with the same result at each call.

    The global random state is not changed.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        judge = Judge(images.shape[3], images.shape[1], int(labels.max()) + 1)
        optimizer = torch.optim.AdamW(judge.parameters(), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
        epochs = math.ceil(STEPS * BATCH / len(images))
        order = torch.cat([torch.randperm(len(images)) for _ in range(epochs)])
        for rows in order.split(BATCH)[:STEPS]:
            loss = cross_entropy(judge(_shifted(images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return judge.eval().requires_grad_(False)


def load_judge(images: torch.Tensor, labels: torch.Tensor, *, seed: int = 0) -> Judge:
    """Load the classifier that `fit_judge` returns; weights are cached by data, seed and version."""
    data = fingerprint({"images": images, "labels": labels})
    weights = cached_tensors(
        f"judge-{VERSION}-{seed}-{data}", lambda: fit_judge(images, labels, seed=seed).state_dict()
    )
    judge = Judge(images.shape[3], images.shape[1], int(labels.max()) + 1)
    judge.load_state_dict(weights)
    return judge.eval().requires_grad_(False)


def _shifted(images: torch.Tensor) -> torch.Tensor:
    """Shift each image at random, by up to `SHIFT` of its side; the background is -1."""
    count, channels, height, width = images.shape
    reach = max(1, round(SHIFT * height))
    padded = pad(images, (reach,) * 4, value=-1.0)  # (N, C, H + 2 reach, W + 2 reach)
    top, left = torch.randint(0, 2 * reach + 1, (2, count, 1))
    rows = (top + torch.arange(height))[:, None, :, None]  # (N, 1, H, 1)
    columns = (left + torch.arange(width))[:, None, None, :]  # (N, 1, 1, W)
    samples = torch.arange(count)[:, None, None, None]
    return padded[samples, torch.arange(channels)[None, :, None, None], rows, columns]  # (N, C, H, W)
