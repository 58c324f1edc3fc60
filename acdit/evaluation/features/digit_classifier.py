"""Independent convolutional classifier of small images, fitted to a training set."""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import cross_entropy, pad

from ...data.digits import digit_images
from ...data.tensor_cache import cached_tensors, fingerprint
from ...model.layout import dims
from ...utils.errors import UserError
from ...utils.progress_bar import ProgressBar
from .extractor import ExtractorRequest
from .fitted import FittedFeatures, one_thread

VERSION = 2  # increase it when the network or its fitting changes, so that no old weights are used

FEATURES = 64
STEPS = 400
BATCH = 64
LEARNING_RATE = 3e-3
SOURCES: dict[tuple[int, ...], str] = {(1, 8, 8): "digits", (1, 32, 32): "mnist"}  # by the shape of an image
SHIFT = 1 / 12  # largest shift in training, as a fraction of the side: one pixel of 8, three of 32


class DigitClassifier(nn.Module):
    """Classifier of images (N, C, side, side) in [-1, 1] whose last hidden layer provides features."""

    def __init__(self, side: int, channels: int, classes: int) -> None:
        super().__init__()
        stages = max(1, round(math.log2(side / 4)))  # each halves the side, down to 4
        widths = [channels, 32, *[64] * stages]
        layers: list[nn.Module] = []
        for stage, (width, next_width) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(width, next_width, 3, padding=1), nn.BatchNorm2d(next_width), nn.ReLU()]
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


def digit_features(
    classifier: DigitClassifier, shape: tuple[int, ...], device: torch.device
) -> FittedFeatures:
    """Return the extractor of a network that was fitted to images of digits of a shape."""
    return FittedFeatures("digit-classifier", classifier, classifier.features, classifier.head, shape, device)


def open_digit_classifier(request: ExtractorRequest) -> FittedFeatures:
    """Return the extractor of the classifier of mnist or digits, whichever has samples of the shape."""
    source = SOURCES.get(request.shape)
    if source is None:
        accepted = " and ".join(f"{dims(shape)} ({name})" for shape, name in SOURCES.items())
        raise UserError(
            f"the features digit-classifier are for images of {accepted}, channels first, not of "
            f"{dims(request.shape)}"
        )
    return digit_features(load_digit_classifier(*digit_images(source)), request.shape, request.device)


def fit_digit_classifier(images: torch.Tensor, labels: torch.Tensor, *, seed: int = 0) -> DigitClassifier:
    """Fit a classifier to images (N, C, H, W) in [-1, 1] and labels (N,), with the same result at each call.

    The global random state is not changed.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), one_thread():
        torch.manual_seed(seed)
        classifier = DigitClassifier(images.shape[3], images.shape[1], int(labels.max()) + 1)
        optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
        epochs = math.ceil(STEPS * BATCH / len(images))
        order = torch.cat([torch.randperm(len(images)) for _ in range(epochs)])
        batches = order.split(BATCH)[:STEPS]
        for rows in ProgressBar(batches, desc="digit classifier, fitted once", unit="step", leave=False):
            loss = cross_entropy(classifier(_shifted(images[rows])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return classifier.eval().requires_grad_(False)


def load_digit_classifier(images: torch.Tensor, labels: torch.Tensor, *, seed: int = 0) -> DigitClassifier:
    """Load the classifier of `fit_digit_classifier`; weights are cached by data, seed and version."""
    data = fingerprint({"images": images, "labels": labels})
    weights = cached_tensors(
        f"judge-{VERSION}-{seed}-{data}", lambda: fit_digit_classifier(images, labels, seed=seed).state_dict()
    )
    classifier = DigitClassifier(images.shape[3], images.shape[1], int(labels.max()) + 1)
    classifier.load_state_dict(weights)
    return classifier.eval().requires_grad_(False)


def _shifted(images: torch.Tensor) -> torch.Tensor:
    """Shift each image at random, by up to `SHIFT` of its side; the background is -1."""
    count, channels, height, width = images.shape
    max_shift = max(1, round(SHIFT * height))
    padded = pad(images, (max_shift,) * 4, value=-1.0)  # (N, C, H + 2 shift, W + 2 shift)
    top, left = torch.randint(0, 2 * max_shift + 1, (2, count, 1))
    rows = (top + torch.arange(height))[:, None, :, None]  # (N, 1, H, 1)
    columns = (left + torch.arange(width))[:, None, None, :]  # (N, 1, 1, W)
    samples = torch.arange(count)[:, None, None, None]
    return padded[samples, torch.arange(channels)[None, :, None, None], rows, columns]  # (N, C, H, W)
