"""Features of whole sets: the same in any batches on any number of ranks, and checked."""

import numpy as np
import pytest
import torch

from acdit.evaluation.extraction import FeatureSet, extract, extract_all
from acdit.evaluation.features.extractor import FeatureInfo, Features
from acdit.evaluation.features.pixels import Pixels
from acdit.evaluation.sample_sources import open_samples_of
from acdit.evaluation.samples import TensorSamples
from acdit.utils.errors import UserError
from acdit.utils.ranks import launched
from tests.processes import Processes, on_ranks
from tests.tiny import relative_error

LONG = pytest.mark.long


class Halves:
    """Features of the upper and the lower half of an image, and logits of its classes."""

    info = FeatureInfo("halves", "1", None, "none", "float32", "none needed")
    classes: tuple[str, ...] = ("a", "b")

    def __call__(self, samples, /):
        halves = torch.stack(samples.chunk(2, dim=2), dim=1).flatten(2)  # (n, 2, F)
        return Features(halves @ weights(halves.shape[2]), samples.flatten(1)[:, :2])


class Answers:
    """Whatever a list holds, batch by batch."""

    info = FeatureInfo("answers", "1", None, "none", "float32", "none needed")
    classes: tuple[str, ...] = ()

    def __init__(self, *answers):
        self.answers = iter(answers)

    def __call__(self, samples, /):
        return next(self.answers)


def weights(width: int) -> torch.Tensor:
    return torch.randn(width, 5, generator=torch.Generator().manual_seed(1)) / width**0.5


def images(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


def samples_of(count: int) -> TensorSamples:
    return TensorSamples(images(count), torch.arange(count) % 2, ("a", "b"))


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_features_do_not_depend_on_the_batch(batch):
    pixels, halves = extract_all(samples_of(11), [Pixels(), Halves()], batch)
    assert pixels.values is not None and halves.values is not None and halves.logits is not None
    assert torch.equal(pixels.values, images(11).flatten(1)) and pixels.labels is None
    expected = torch.stack([part.flatten(1) for part in images(11).chunk(2, dim=2)], dim=1).flatten(0, 1)
    assert relative_error(halves.values, expected @ weights(24)) < 1e-6 and len(halves) == 22
    assert torch.equal(halves.logits, images(11).flatten(1)[:, :2])
    assert halves.labels is not None and halves.labels.tolist() == [row % 2 for row in range(11)]
    rows = halves.values.double().numpy()
    assert np.allclose(halves.statistics.mean, rows.mean(0), rtol=1e-12)
    assert np.allclose(halves.statistics.covariance, np.cov(rows.T), rtol=1e-10)
    assert halves.width == 5 and FeatureSet(halves.info, halves.statistics).width == 5


def test_labels_are_those_of_the_classes_of_the_logits():
    other = TensorSamples(images(3), torch.zeros(3, dtype=torch.long), ("x", "y"))
    assert extract(other, Halves()).labels is None
    assert extract(TensorSamples(images(3)), Halves()).labels is None


def test_files_that_cannot_be_read_are_left_out_of_features_and_labels(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)
    for index, row in enumerate(pixels):
        path = tmp_path / "data" / "ab"[index >= 3] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row).save(path)
    whole = extract(open_samples_of(str(tmp_path / "data"), size=4), Halves(), 2)
    damaged = tmp_path / "data" / "b" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    samples = open_samples_of(str(tmp_path / "data"), size=4)
    part = extract(samples, Halves(), 2)
    assert part.values is not None and whole.values is not None and part.labels is not None
    assert torch.equal(part.values.unflatten(0, (5, 2)), whole.values.unflatten(0, (6, 2))[[0, 1, 2, 4, 5]])
    assert part.labels.tolist() == [0, 0, 0, 1, 1] and list(samples.unreadable) == [str(damaged)]
    for path in (tmp_path / "data").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=r"no readable sample; first problem: .*0\.png"):
        extract(open_samples_of(str(tmp_path / "data"), size=4), Pixels(), 2)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([torch.full((2, 3), float("nan"))], "features answers returns features that are not finite"),
        ([torch.zeros(2, 3), torch.zeros(2, 4)], "as many features for every batch: 4 follow 3"),
        ([torch.zeros(2, 3, 4), torch.zeros(2, 2, 4)], "as many features for every sample"),
        ([torch.zeros(2, 3, 4), torch.zeros(2, 4)], "as many features for every"),
        ([torch.zeros(3, 3)], "one row of features for each of 2 samples"),
        ([torch.zeros(2, 0)], "one row of features"),
        ([None], "not a NoneType"),
    ],
)
def test_wrong_features_are_refused(answers, message):
    with pytest.raises(UserError, match=message):
        extract(samples_of(4), Answers(*[(answer, None) for answer in answers]), 2)


def test_logits_are_of_all_samples_or_of_none():
    zeros = torch.zeros(2, 3)
    for first, second in ((zeros, None), (None, zeros)):
        with pytest.raises(UserError, match="logits for some samples only"):
            extract(samples_of(4), Answers((zeros, first), (zeros, second)), 2)
    with pytest.raises(UserError, match="logits answers returns features that are not finite"):
        extract(samples_of(4), Answers((zeros, zeros / 0)), 2)


def test_empty_sets_and_sets_that_do_not_fit_into_memory_are_refused():
    with pytest.raises(UserError, match="samples holds no samples"):
        extract(samples_of(0), Pixels())

    class Endless(TensorSamples):
        def __len__(self):
            return 10**15

    with pytest.raises(UserError, match=r"1,000,000,000,000,000 samples of samples, 4 at once, need about"):
        extract(Endless(images(4)), Pixels(), 4)
    many = TensorSamples(torch.zeros(1).expand(10**8, 3, 64, 64))
    with pytest.raises(UserError, match=r"features pixels of 100,000,000 samples need about"):
        extract(many, Pixels(), 4)
    huge = TensorSamples(torch.zeros(1, 1).expand(10**9, 10**9)[:, None, None])
    with pytest.raises(UserError, match=r"1,000,000,000 samples .* 64 at once.* lower --batch"):
        extract(huge, Pixels())


def features_on_ranks(count, batch, statistics):
    ranks = launched()
    with ranks.joined():
        pixels, halves = extract_all(
            samples_of(count), [Pixels(), Halves()], batch, ranks, statistics=statistics
        )
    answers = [pixels.values, halves.values, halves.logits, halves.labels]
    if statistics:
        assert (halves.stored is None) == (len(halves) <= halves.width)  # few items need no covariance
        answers += [halves.statistics.mean, halves.statistics.covariance]
    return [answer.numpy() for answer in answers if answer is not None]


@pytest.mark.parametrize(
    ("world_size", "count", "batch"),
    [pytest.param(2, 11, 2, marks=LONG), (3, 5, 4), pytest.param(3, 2, 1, marks=LONG)],
)
def test_ranks_compute_the_features_of_one(world_size, count, batch):
    """An odd number of samples, ranks with a batch less than others, and ranks without any."""
    pixels, halves = extract_all(samples_of(count), [Pixels(), Halves()], batch)
    expected = [pixels.values, halves.values, halves.logits, halves.labels]
    expected += [halves.statistics.mean, halves.statistics.covariance]
    for answers in on_ranks(features_on_ranks, world_size, count, batch, True):
        for answer, one in zip(answers, expected, strict=True):
            assert one is not None and answer.shape == one.shape
            assert relative_error(torch.from_numpy(answer).double(), one.double()) < 1e-5


def failing_on_one_rank(count):
    ranks = launched()
    with ranks.joined():
        answers = [(torch.zeros(1, 3), None)] * count
        if ranks.rank == 1:
            answers[1] = (torch.full((1, 3), float("inf")), None)
        with pytest.raises(UserError) as caught:
            extract(samples_of(2 * count), Answers(*answers), 1, ranks)
    return str(caught.value)


def differing_ranks():
    ranks = launched()
    with ranks.joined(), pytest.raises(UserError) as caught:
        extract(samples_of(4), Answers(*[(torch.zeros(1, 3 + ranks.rank), None)] * 2), 1, ranks)
    return str(caught.value)


def test_an_error_on_one_rank_is_one_on_all():
    ranks = Processes(failing_on_one_rank, 2, 4)
    first, second = ranks.results()
    assert first == second and "answers returns features that are not finite" in first
    assert ranks.wait() == [0, 0]
    assert on_ranks(differing_ranks, 2) == ["the features answers are not as many for every sample"] * 2
