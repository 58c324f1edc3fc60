"""Scores of continued clips: what they are for the truth, for guesses, and for a broken continuation."""

import json

import pytest
import torch

from acdit.data.moving_digits import MovingDigits
from acdit.evaluation.continuation import Continuations, centroids, continuation_report
from acdit.utils.errors import UserError

FRAMES = 20
INDICES = range(40)


@pytest.fixture(scope="module")
def data():
    return MovingDigits(FRAMES, held_out=True)


@pytest.fixture(scope="module")
def real(data):
    return torch.stack([data[0, index]["data"][0] for index in INDICES])[:, :, None]  # (N, F, 1, H, W)


def reader(data):
    """Reads a frame by the held-out digit that fits best anywhere in it."""
    chosen = [data.clip(index).digit for index in INDICES]
    templates = data.sprites[chosen][:, None] + 1  # (40, 1, 16, 16)
    mass = templates.square().sum((1, 2, 3))

    def read(frames):
        overlap = torch.nn.functional.conv2d(frames + 1, templates)  # (N, 40, 17, 17)
        best = (2 * overlap.amax((2, 3)) - mass).argmax(1)
        return data.labels[list(INDICES)][best]

    return read


def by_name(report):
    """Scores, series and the number of bouncing clips of a report by name."""
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["settings"] == dict(report.settings)
    series = {f"{line.metric} by frame": line.values for line in report.series}
    last = {"read of real": report.score("read_last").real, "clips": report.scores[0].samples}
    return {one.metric: one.value for one in report.scores} | series | last | dict(report.settings)


@pytest.fixture(scope="module")
def score(data, real):
    def score(made):
        continued = Continuations(data, INDICES, made, 4)
        return by_name(continuation_report(continued, reader(data), real.mean((0, 1, 2))))

    return score


def test_the_truth_is_perfect(score, real, data):
    found = score(real)
    assert found["squared_error"] == found["error_ratio"] == found["centroid_error"] == 0
    assert found["clips"] == 40 and 30 < found["bouncing"] <= 40
    assert len(found["read by frame"]) == FRAMES - 4
    assert found["read by frame"] == (1.0,) * (FRAMES - 4) and found["read of real"] == 1


def test_guesses_have_the_error_that_is_reported_for_them(score, real, data):
    made = Continuations(data, INDICES, real, 4)
    assert torch.equal(made.real(), real)
    bouncing = made.bounces(8)
    for name, guess in (
        ("black", torch.full_like(real, -1)),
        ("repeated", real[:, 3:4].expand_as(real)),
        ("extrapolated", made.extrapolated()),
    ):
        found = score(torch.cat((real[:, :4], guess[:, 4:]), 1))
        brute = ((guess - real)[bouncing, 4:12] ** 2).mean().item()
        assert found["squared_error"] == pytest.approx(brute) == pytest.approx(found[f"squared_error_{name}"])
        assert found["error_ratio"] >= 1
    extrapolated = (made.extrapolated() - real)[~bouncing, :12]
    assert extrapolated.abs().max() == 0 if extrapolated.numel() else True
    assert (made.extrapolated() - real)[:, :4].abs().max() == 0


def test_clips_that_end_before_the_first_part_does(data, real):
    """Those count as bouncing that meet an edge in the frames that there are."""
    short = Continuations(data, INDICES, real[:, :6], 4)
    found = by_name(continuation_report(short, reader(data), real.mean((0, 1, 2))))
    moved = [data.clip(index).motion.corners(6) for index in INDICES]
    turned = [bool((corners[4:] - corners[3:5] != corners[3] - corners[2]).any()) for corners in moved]
    assert isinstance(found["bouncing"], int) and 0 < found["bouncing"] == sum(turned) < 30
    still = [place for place, turns in enumerate(turned) if not turns]
    none = Continuations(data, [INDICES[place] for place in still], real[still, :6], 4)
    with pytest.raises(UserError, match="reaches the border within 2 frames"):
        continuation_report(none, lambda frames: data.labels[none.indices], real.mean((0, 1, 2)))


def test_a_shift_is_a_centroid_error_and_another_digit_is_not_read(score, real):
    shifted = torch.cat((real[:, :4], real[:, 4:].roll(3, -1)), 1)
    wide = score(shifted)["centroid_error"]
    assert wide == pytest.approx(3, abs=0.6)  # some digits wrap round
    others = torch.cat((real[:, :4], real.roll(17, 0)[:, 4:]), 1)
    assert score(others)["read by frame"][-1] < 0.4


def test_centroids():
    frames = torch.full((1, 2, 1, 8, 8), -1.0)
    frames[0, 0, 0, 2, 4:6] = 1
    assert centroids(frames).tolist() == [[[2.0, 4.5], [3.5, 3.5]]]
