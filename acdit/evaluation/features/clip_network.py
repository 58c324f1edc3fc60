"""Features of clips for Fréchet video distances, from a small network that is fitted here."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ...data.digits import LABEL_NAMES
from ...data.moving_digits import FRAME_SIDE, VELOCITIES, MovingDigits
from ...data.tensor_cache import cached_tensors, fingerprint
from ...model.layout import dims
from ...utils.errors import UserError
from ...utils.progress_bar import ProgressBar
from .extractor import (
    ExtractorRequest,
    FeatureInfo,
    Features,
    checked_features,
    full_float32,
    weights_version,
)

VERSION = 1  # increase it when the network or its fitting changes, so that no old weights are used

FEATURES = 64
STEPS = 800
BATCH = 32
LEARNING_RATE = 3e-3


class ClipNetwork(nn.Module):
    """Network that predicts the digit and its velocity from clips (N, 1, F, 32, 32) in [-1, 1]."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        widths, layers = (16, 32, 64), []
        channels = 1
        for width in widths:  # each halves height and width, down to 4
            layers += [
                nn.Conv3d(channels, width, 3, padding=1, stride=(1, 2, 2)),
                nn.BatchNorm3d(width),
                nn.ReLU(),
            ]
            channels = width
        flat = channels * frames * 16
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, FEATURES), nn.ReLU())
        self.digit = nn.Linear(FEATURES, 10)
        self.velocity = nn.Linear(FEATURES, 2)  # initial velocity, relative to the fastest

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, 10) and velocities (N, 2)."""
        features = self.trunk(clips)
        return self.digit(features), self.velocity(features)

    @torch.inference_mode()
    def features(self, clips: Tensor, batch: int = 100) -> Tensor:
        """Return the output of the last hidden layer, (N, F)."""
        return torch.cat([self.trunk(part) for part in clips.split(batch)])


def fit_clip_network(frames: int, *, steps: int = STEPS, seed: int = 0) -> ClipNetwork:
    """Fit a network to the training clips of moving digits, with the same result at each call."""
    data = MovingDigits(frames)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        network = ClipNetwork(frames)
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
        order = torch.randperm(len(data))[: steps * BATCH]
        for rows in ProgressBar(
            order.split(BATCH), desc="fitting the clip network", unit="step", delay=3, leave=False
        ):
            indices = rows.tolist()
            clips = torch.stack([data.decode(index) for index in indices])
            velocity = torch.tensor([data.clip(index).motion.velocity for index in indices]).float()
            logits, velocities = network(clips)
            fastest = max(max(pair) for pair in VELOCITIES)
            loss = (
                cross_entropy(logits, data.labels[rows]) + (velocities - velocity / fastest).square().mean()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval().requires_grad_(False)


def load_clip_network(frames: int, *, seed: int = 0) -> ClipNetwork:
    """Load the network that `fit_clip_network` returns; weights are cached by digits, seed and version."""
    digits = fingerprint({"sprites": MovingDigits(frames).sprites})
    weights = cached_tensors(
        f"clips-{VERSION}-{frames}-{seed}-{digits}",
        lambda: dict(fit_clip_network(frames, seed=seed).state_dict()),
    )
    network = ClipNetwork(frames)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


class ClipFeatures:
    """Extractor of a network that recognises moving digits: its last hidden layer, and the digit's logits.

    Args:
        network: the network.
        shape: shape of a clip, (C, F, H, W).
        device: device of the network.
    """

    classes: tuple[str, ...] = LABEL_NAMES

    def __init__(self, network: ClipNetwork, shape: tuple[int, ...], device: torch.device):
        self._network, self._shape, self._device = network.to(device), tuple(shape), device
        self.info = FeatureInfo(
            "clip-classifier", weights_version(network), FRAME_SIDE, "none", "float32", "fitted here"
        )

    @torch.inference_mode()
    @full_float32()
    def __call__(self, samples: Tensor, /) -> Features:
        """Return the features (N, 64) and logits (N, 10) of clips in [-1, 1]."""
        if tuple(samples.shape[1:]) != self._shape:
            raise UserError(
                f"the clip classifier was fitted to clips of {dims(self._shape)}, not "
                f"{dims(samples.shape[1:])}"
            )
        features = self._network.features(samples.to(self._device))
        logits = self._network.digit(features).cpu()
        return Features(checked_features(features, "the clip classifier", len(samples)), logits)


def open_clip_classifier(request: ExtractorRequest) -> ClipFeatures:
    """Return the extractor of the network that was fitted to clips with the requested number of frames."""
    channels, frames, *sides = request.shape
    if (channels, *sides) != (1, FRAME_SIDE, FRAME_SIDE):
        raise UserError(
            f"the features clip-classifier are for grey clips of {FRAME_SIDE}x{FRAME_SIDE} pixels, such as "
            f"moving-digits, not of {dims(request.shape)}"
        )
    return ClipFeatures(load_clip_network(frames), request.shape, request.device)
