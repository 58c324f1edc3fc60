"""Neighbours of samples, against brute force, and their picture."""

import pytest
import torch
from PIL import Image

from acdit.evaluation.features.pixels import Pixels
from acdit.evaluation.neighbour_pictures import draw_neighbours, find_neighbours
from acdit.evaluation.samples import TensorSamples
from acdit.utils.errors import UserError
from acdit.utils.ranks import launched
from tests.processes import on_ranks
from tests.tiny import given

LONG = pytest.mark.long


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


class Damaged(TensorSamples):
    """Samples of which none can be read."""

    def batches(self, size, rank=0, ranks=1):
        yield from ()


def test_sets_without_a_readable_sample_are_refused():
    drawn, own, *_ = sets()
    damaged = Damaged(torch.zeros(3, 3, 8, 8), name="damaged")
    for samples, real in ((damaged, own), (drawn, damaged)):
        with pytest.raises(UserError, match=r"^damaged holds no readable sample$"):
            find_neighbours(samples, real, Pixels())


def neighbours_on_ranks(batch):
    ranks = launched()
    drawn, own, *_ = sets()
    reads = []

    def read(size, rank=0, ranks=1):
        for rows, part in TensorSamples.batches(drawn, size, rank, ranks):
            reads.extend(rows)
            yield rows, part

    drawn.batches = read
    with ranks.joined():
        found = find_neighbours(drawn, own, Pixels(), rows=5, neighbours=4, batch=batch, ranks=ranks)
        picture = draw_neighbours(found, drawn, own, batch, ranks)
    facts = found.rows.tolist(), found.distances.tolist(), found.indices.tolist()
    return facts, picture.tobytes(), sorted(set(reads))


@pytest.mark.parametrize(("world_size", "batch"), [(2, 3), pytest.param(3, 10, marks=LONG)])
def test_ranks_find_the_neighbours_of_one_and_read_their_own_samples_alone(world_size, batch):
    """With batches of 10, one of three ranks has no sample."""
    drawn, own, *_ = sets()
    found = find_neighbours(drawn, own, Pixels(), rows=5, neighbours=4, batch=batch)
    picture = draw_neighbours(found, drawn, own, batch)
    rows = range(20)
    for rank, (facts, pixels, read) in enumerate(on_ranks(neighbours_on_ranks, world_size, batch)):
        assert facts[0] == found.rows.tolist() and facts[2] == found.indices.tolist()
        torch.testing.assert_close(torch.tensor(facts[1], dtype=torch.float64), found.distances)
        assert pixels == picture.tobytes()
        assert read == [row for row in rows if row // batch % world_size == rank]


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
