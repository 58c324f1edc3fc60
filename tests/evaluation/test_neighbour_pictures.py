"""Neighbours of samples, against brute force, and their picture."""

import torch
from PIL import Image

from acdit.evaluation.features.pixels import Pixels
from acdit.evaluation.neighbour_pictures import draw_neighbours, find_neighbours
from acdit.evaluation.samples import TensorSamples
from tests.tiny import given


def sets(shape=(3, 8, 8)):
    random = torch.Generator().manual_seed(0)
    real = torch.rand(50, *shape, generator=random) * 2 - 1
    samples = torch.rand(20, *shape, generator=random) * 2 - 1
    samples[7] = real[31] + 0.01  # a copy
    return TensorSamples(samples, name="drawn"), TensorSamples(real, name="own pictures"), samples, real


def test_the_nearest_are_those_of_brute_force():
    drawn, own, samples, real = sets()
    found = find_neighbours(drawn, own, Pixels(), rows=5, neighbours=4, batch=6)
    distances = torch.cdist(samples.flatten(1).double(), real.flatten(1).double())
    order = distances.min(dim=1).values.argsort()[:5]
    assert found.rows.tolist() == order.tolist() and found.rows[0] == 7 and found.indices[0, 0] == 31
    nearest = distances[order].sort(dim=1)
    assert torch.equal(found.indices, nearest.indices[:, :4])
    torch.testing.assert_close(found.distances, nearest.values[:, :4])
    few = find_neighbours(drawn, TensorSamples(real[:2]), Pixels())
    assert few.indices.shape == (8, 2)


def test_the_picture_shows_samples_beside_their_neighbours():
    drawn, own, samples, real = sets()
    found = find_neighbours(drawn, own, Pixels(), rows=2, neighbours=2)
    picture = draw_neighbours(found, drawn, own)
    shown = [image(each) for each in (samples[7], real[31])]
    pixels = given(picture.load())
    rows = [y for y in range(picture.height) if pixels[4, y] == shown[0].getpixel((0, 0))]
    assert rows, "the sample stands at the left"
    top = rows[0]
    assert picture.crop((4, top, 68, top + 64)).tobytes() == shown[0].tobytes()
    lefts = [
        x
        for x in range(70, picture.width - 64)
        if picture.crop((x, top, x + 64, top + 64)).tobytes() == shown[1].tobytes()
    ]
    assert len(lefts) == 1
    clips, films = (TensorSamples(one[:, :, None].expand(-1, -1, 4, -1, -1)) for one in (samples, real))
    wide = draw_neighbours(find_neighbours(clips, films, Pixels(), rows=2), clips, films)
    assert wide.width > picture.width


def image(sample):
    """The sample as a picture of 64x64 pixels."""
    rows = ((sample.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(rows).resize((64, 64), Image.Resampling.NEAREST)
