"""Moving digits, against a loop that walks pixel by pixel."""

import pytest
import torch

from acdit.data.config import DataConfig
from acdit.data.digits import digit_images
from acdit.data.moving_digits import LARGE, SCENES, SMALL, Motion, MovingDigits, scene_of
from acdit.data.opening import open_samples
from acdit.utils.errors import UserError


@pytest.fixture(scope="module", params=SCENES.values(), ids=list(SCENES))
def parts(request):
    return MovingDigits(12, scene=request.param), MovingDigits(12, held_out=True, scene=request.param)


def walked(start, velocity, reach, frames):
    """Where a corner is that turns round whenever a step would lead over an edge."""
    place, speed, places = list(start), list(velocity), []
    for _ in range(frames):
        places.append(list(place))
        for axis in range(2):
            for _ in range(abs(speed[axis])):
                step = 1 if speed[axis] > 0 else -1
                if not 0 <= place[axis] + step <= reach:
                    speed[axis] = -speed[axis]
                    step = -step
                place[axis] += step
    return places


def test_it_bounces_as_light_at_a_mirror(parts):
    for data in parts:
        for index in range(0, 200, 7):
            motion = data.clip(index).motion
            assert motion.corners(40).tolist() == walked(
                motion.start, motion.velocity, data.scene.side - data.scene.digit, 40
            )


def test_frames_hold_the_digit_where_it_is_and_nothing_else(parts):
    for data in parts:
        side, width = data.scene.side, data.scene.digit
        for index in (0, 1, 300):
            clip, item = data.clip(index), data[3, index]
            assert item["data"].shape == (1, 12, side, side) and item["label"] == data.labels[index]
            for frame, (row, column) in zip(item["data"][0], clip.motion.corners(12).tolist(), strict=True):
                cut = frame[row : row + width, column : column + width]
                assert torch.equal(cut, data.sprites[clip.digit])
                assert (frame + 1).sum() == pytest.approx(float((cut + 1).sum()), rel=1e-5)


@pytest.mark.parametrize(("scene", "count"), [(LARGE, 40), (SMALL, 12)])
def test_speeds_are_within_their_bounds(scene, count):
    speeds = torch.tensor(scene.velocities).float().norm(dim=1)
    assert len(set(scene.velocities)) == len(scene.velocities) == count
    assert (speeds.min(), speeds.max()) == scene.speeds


def test_a_scene_is_found_by_its_frames():
    assert scene_of((1, 32, 32)) is LARGE and scene_of((1, 16, 16)) is SMALL
    assert scene_of((3, 16, 16)) is None and scene_of((1, 16, 32)) is None


def test_the_parts_are_of_other_digits_and_always_the_same(parts):
    training, held_out = parts
    scene = training.scene
    count, rest = {"mnist": (4000, 1000), "digits": (1438, 359)}[scene.digits]
    assert (len(training), len(held_out)) == (count * 25, rest)
    for data, other in ((training, False), (held_out, True)):
        digits, labels = digit_images(scene.digits, held_out=other)
        shown = [data.clip(index).digit for index in range(len(labels))]
        assert sorted(shown) == list(range(len(labels)))  # every digit once in a row
        assert torch.equal(data.labels[: len(labels)], labels[shown])
        assert digits[shown[5]].add(1).sum() > 0
        assert data.clip(7) == MovingDigits(3, held_out=other, scene=scene).clip(7)
        counts = data.labels[:300].bincount(minlength=10)
        assert counts.min() > 10  # though MNIST lies sorted by class
    motions = {training.clip(index).motion for index in (0, count, 2 * count)}
    assert len(motions) == 3 and training.clip(0).digit == training.clip(count).digit
    assert training.clip(0).motion != held_out.clip(0).motion
    assert torch.equal(training[0, 5]["data"], training[9, 5]["data"])


def test_what_leaves_the_square_is_left_out():
    data = MovingDigits(2, held_out=True)
    data.sprites = torch.ones(1, 16, 16)
    frames = data.render(0, torch.tensor([[-8, 0], [24, 8], [40, 0], [-99, -99]]))
    assert [(frame > 0).sum().item() for frame in frames[0]] == [8 * 16, 8 * 16, 0, 0]
    assert Motion((1, 2), (3, -4), 16).straight(3).tolist() == [[1, 2], [4, -2], [7, -6]]


def test_what_the_configuration_must_say():
    data = open_samples(DataConfig(source="moving-digits", frames=8), seed=0, held_out=True)
    assert data.size == (8, 32, 32) and data.channels == 1
    with pytest.raises(UserError, match=r"data.frames must be set to the number of frames"):
        open_samples(DataConfig(source="moving-digits"), seed=0)
    with pytest.raises(UserError, match=r"data.image_size of moving-digits is 32: leave it out"):
        open_samples(DataConfig(source="moving-digits", frames=8, image_size=64), seed=0)
