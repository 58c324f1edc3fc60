"""Scores of clips must tell real ones from each kind of broken ones."""

import json

import pytest
import torch

from acdit.data.digits import LABEL_NAMES
from acdit.data.moving_digits import MovingDigits
from acdit.evaluation.evaluate import evaluate_samples
from acdit.evaluation.extraction import extract
from acdit.evaluation.features.clip_network import clip_features, fit_clip_network
from acdit.evaluation.features.moving_frames import load_frame_classifier
from acdit.evaluation.features.torchscript import TorchScriptFeatures
from acdit.evaluation.rollouts import ClipParts
from acdit.evaluation.samples import TensorSamples
from acdit.metrics.statistics import frechet_distance
from acdit.utils.errors import UserError

COUNT, FRAMES = 300, 8


@pytest.fixture(scope="module")
def real():
    data = MovingDigits(FRAMES, held_out=True)
    return torch.stack([data.decode(index) for index in range(COUNT)]), data.labels[:COUNT]


@pytest.fixture(scope="module")
def network():
    return fit_clip_network(FRAMES, steps=300)


@pytest.fixture(scope="module")
def score(real, network):
    data = MovingDigits(FRAMES)
    train = torch.stack([data.decode(index) for index in range(COUNT)])
    extractors = [clip_features(network, real[0].shape[1:], torch.device("cpu")), load_frame_classifier()]
    reference, beside = (TensorSamples(clips, real[1], LABEL_NAMES) for clips in (real[0], train))

    def score(clips, labels=real[1]):
        """Scores by metric, with `frame` after those of frames and `real` after those of real data."""
        samples = TensorSamples(clips, labels, LABEL_NAMES)
        report = evaluate_samples(samples, reference, extractors, real=beside)
        assert json.loads(json.dumps(report.to_json(), allow_nan=False))["settings"] == {"seed": 0}
        scores = {}
        for one in report.scores:
            name = f"{one.metric} frame" if one.features == "moving-frames" else one.metric
            scores |= {name: one.value, f"{name} real": one.real}
        return scores

    return score


@pytest.mark.long
def test_real_clips_score_as_real_ones(score, real):
    found = score(real[0])
    assert found["frechet_distance"] < 1e-6 and found["frechet_distance frame"] < 1e-6
    assert (
        found["coverage"] == 1 and found["label_accuracy frame"] == found["label_accuracy frame real"] > 0.85
    )


@pytest.mark.long
def test_broken_clips_score_worse(score, real):
    fair = score(real[0])
    order = torch.tensor([3, 0, 6, 1, 7, 4, 2, 5])
    shuffled = score(real[0][:, :, order])
    assert shuffled["frechet_distance frame"] < 1e-6  # frame by frame nothing is wrong
    assert shuffled["frechet_distance"] > 3 * fair["frechet_distance real"]
    frozen = score(real[0][:, :, :1].expand(-1, -1, FRAMES, -1, -1))
    assert frozen["frechet_distance"] > 3 * fair["frechet_distance real"]
    noise = torch.randn(real[0].shape, generator=torch.Generator().manual_seed(0))
    noisy = score((real[0] + 0.5 * noise).clamp(-1, 1))
    assert noisy["frechet_distance frame"] > 3 * fair["frechet_distance frame real"]
    one = score(real[0][:1].expand(COUNT, -1, -1, -1, -1))
    assert one["coverage"] < 0.2
    assert score(real[0], real[1].roll(1))["label_accuracy frame"] < 0.4


@pytest.mark.long
def test_drift_rises_with_what_goes_wrong(real, network):
    data = MovingDigits(24, held_out=True)
    truth = torch.stack([data.decode(index) for index in range(COUNT)])
    fading = truth.clone()
    fading[:, :, 8:16] = -1 + 0.6 * (truth[:, :, 8:16] + 1)
    fading[:, :, 16:] = -1 + 0.2 * (truth[:, :, 16:] + 1)
    extractor = clip_features(network, (1, FRAMES, 32, 32), torch.device("cpu"))
    parts = [
        ClipParts(TensorSamples(clips), start, FRAMES) for start in (0, 8, 16) for clips in (fading, truth)
    ]
    features = [extract(part, extractor).statistics for part in parts]
    found = [frechet_distance(*features[place : place + 2]) for place in (0, 2, 4)]
    assert found[0] < 1e-6 < found[1] < found[2]


def test_the_network_is_the_same_at_each_fit():
    before = torch.random.get_rng_state()
    a, b = (fit_clip_network(2, steps=2).state_dict() for _ in range(2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert torch.equal(torch.random.get_rng_state(), before)


class Means(torch.nn.Module):
    """What a TorchScript file of features looks like to its caller."""

    def forward(
        self, video: torch.Tensor, rescale: bool, resize: bool, return_features: bool
    ) -> torch.Tensor:
        assert not rescale and not resize and return_features
        return video.mean(dim=(3, 4)).flatten(1)


class Plain(torch.nn.Module):
    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return clips.mean(dim=(1, 3, 4))


def test_a_torchscript_file_gives_features(tmp_path, real):
    torch.jit.script(Means()).save(str(tmp_path / "means.pt"))
    features = TorchScriptFeatures(tmp_path / "means.pt", torch.device("cpu"))
    clips = MovingDigits(10, held_out=True).decode(0)[None].repeat(9, 1, 1, 1, 1)
    found = features(clips).values
    assert found.shape == (9, 30)
    expected = clips.expand(-1, 3, -1, -1, -1).mean((3, 4)).flatten(1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    # frames of 8 bits, as published: what is within half a step of them has their features
    eight = ((clips.double() + 1) * 127.5).round() / 127.5 - 1
    near = (eight + 0.3 / 127.5).clamp(-1, 1).float()
    assert torch.equal(features(near).values, features(eight.float()).values)
    with pytest.raises(UserError, match="at least 10 frames"):
        features(real[0][:1])
    torch.jit.script(Plain()).save(str(tmp_path / "plain.pt"))
    plain = TorchScriptFeatures(tmp_path / "plain.pt", torch.device("cpu"))
    torch.testing.assert_close(plain(real[0][:9]).values, real[0][:9].mean((1, 3, 4)))  # as they are
    with pytest.raises(UserError, match="cannot take images of 1x8x32: "):
        plain(real[0][:1, :, :, 0])
    (tmp_path / "text.pt").write_text("no program")
    with pytest.raises(UserError, match="cannot be loaded as TorchScript"):
        TorchScriptFeatures(tmp_path / "text.pt", torch.device("cpu"))
