"""Features of clips for Fréchet video distances, from a small network that is fitted here."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ...data.moving_digits import LARGE, SCENES, MovingDigits, Scene, scene_of
from ...data.tensor_cache import cached_tensors, fingerprint
from ...model.layout import dims
from ...utils.errors import UserError, in_words
from ...utils.progress_bar import ProgressBar
from .extractor import ExtractorRequest
from .fitted import FittedFeatures, one_thread

VERSION = 2  # increase it when the network or its fitting changes, so that no old weights are used

FEATURES = 64
STEPS = 800
BATCH = 32
LEARNING_RATE = 3e-3


class ClipNetwork(nn.Module):
    """Network that predicts the digit and its velocity from clips (N, 1, F, side, side) in [-1, 1]."""

    def __init__(self, frames: int, side: int) -> None:
        super().__init__()
        widths, layers = (16, 32, 64)[-round(math.log2(side / 4)) :], []
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


def fit_clip_network(frames: int, *, steps: int = STEPS, seed: int = 0, scene: Scene = LARGE) -> ClipNetwork:
    """Fit a network to the training clips of moving digits, with the same result at each call."""
    data = MovingDigits(frames, scene=scene)
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), one_thread():
        torch.manual_seed(seed)
        network = ClipNetwork(frames, scene.side)
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
            fastest = max(max(pair) for pair in scene.velocities)
            loss = (
                cross_entropy(logits, data.labels[rows]) + (velocities - velocity / fastest).square().mean()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval().requires_grad_(False)


def load_clip_network(frames: int, *, seed: int = 0, scene: Scene = LARGE) -> ClipNetwork:
    """Load the network that `fit_clip_network` returns; weights are cached by digits, seed and version."""
    digits = fingerprint({"sprites": MovingDigits(frames, scene=scene).sprites})
    weights = cached_tensors(
        f"clips-{VERSION}-{frames}-{seed}-{digits}",
        lambda: dict(fit_clip_network(frames, seed=seed, scene=scene).state_dict()),
    )
    network = ClipNetwork(frames, scene.side)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def clip_features(network: ClipNetwork, shape: tuple[int, ...], device: torch.device) -> FittedFeatures:
    """Return the extractor of a network that was fitted to clips of moving digits of a shape."""
    return FittedFeatures("clip-classifier", network, network.features, network.digit, shape, device)


def open_clip_classifier(request: ExtractorRequest) -> FittedFeatures:
    """Return the extractor of the network that was fitted to clips with the requested number of frames."""
    channels, frames, *sides = request.shape
    scene = scene_of((channels, *sides))
    if scene is None:
        known = [f"{dims((each.side, each.side))} ({each.name})" for each in SCENES.values()]
        raise UserError(
            f"the features clip-classifier are for grey clips of {in_words(known, 'and')} pixels, not of "
            f"{dims(request.shape)}"
        )
    return clip_features(load_clip_network(frames, scene=scene), request.shape, request.device)
