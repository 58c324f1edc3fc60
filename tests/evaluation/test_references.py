"""References: cached features of data, and statistics in files of this program and of others."""

import json
import os
import zipfile

import numpy as np
import pytest
import torch

from acdit.data.digits import digit_images
from acdit.data.tensor_cache import cache_folder
from acdit.evaluation.evaluate import evaluate_samples
from acdit.evaluation.extraction import FeatureSet, extract
from acdit.evaluation.features.extractor import FeatureInfo, Features
from acdit.evaluation.features.pixels import Pixels
from acdit.evaluation.metric_table import METRICS, Sets
from acdit.evaluation.references import open_reference, reference_features
from acdit.evaluation.sample_sources import open_samples_of
from acdit.evaluation.samples import TensorSamples
from acdit.evaluation.stored_reference import (
    StoredReference,
    check_replaceable_reference,
    write_reference,
)
from acdit.metrics.distances import frechet_distance
from acdit.metrics.statistics import Statistics
from acdit.utils.errors import UserError
from acdit.utils.ranks import launched
from tests.processes import on_ranks

CLASSES = tuple("0123456789")


class Rows:
    """Features of the rows of an image, with logits; counts how often it is called."""

    classes: tuple[str, ...] = CLASSES

    def __init__(self, **changes):
        values = {
            "name": "rows",
            "version": "1",
            "resizing": "none",
            "precision": "float32",
            "licence": "MIT",
        }
        self.info = FeatureInfo(**{"input_size": None, **values, **changes})
        self.calls = 0

    def __call__(self, samples, /):
        self.calls += 1
        return Features(samples.mean(dim=(1, 3)), samples.flatten(1)[:, :10])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    digit_images("digits")
    monkeypatch.setenv("ACDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def same(a: FeatureSet, b: FeatureSet) -> bool:
    pairs = [(a.values, b.values), (a.logits, b.logits), (a.labels, b.labels)]
    pairs += [(a.statistics.mean, b.statistics.mean), (a.statistics.covariance, b.statistics.covariance)]
    known = all(one is not None and other is not None and torch.equal(one, other) for one, other in pairs)
    return known and a.parts == b.parts


@pytest.mark.parametrize("statistics", [False, True])
def test_features_of_data_are_computed_once(cache, statistics):
    samples, extractor = open_samples_of("digits", count=50), Rows()
    (first,) = reference_features(samples, [extractor], 20, statistics=statistics)
    assert extractor.calls == 3 and same(first, extract(samples, Rows(), 20))
    (second,) = reference_features(
        open_samples_of("digits", count=50), [extractor], 20, statistics=statistics
    )
    assert extractor.calls == 3 and same(first, second)
    assert [path.suffix for path in cache_folder().iterdir()] == [".safetensors"]
    others = {
        "more": (open_samples_of("digits", count=51), Rows()),
        "part": (open_samples_of("digits", split="train", count=50), Rows()),
        "version": (samples, Rows(version="2")),
        "resizing": (samples, Rows(resizing="bicubic")),
        "size": (samples, Rows(input_size=8)),
    }
    for name, (data, other) in others.items():
        reference_features(data, [other], 20)
        assert other.calls == 3, name
    stored = next(path for path in cache_folder().iterdir())
    for path in cache_folder().iterdir():
        path.write_bytes(stored.read_bytes()[:-1] + b"!")
    (third,) = reference_features(samples, [extractor], 20, statistics=statistics)
    assert extractor.calls == 6 and same(first, third)


def test_what_is_fast_or_has_no_cheap_digest_is_not_cached(cache, tmp_path):
    images, labels = digit_images("digits")
    reference_features(TensorSamples(images[:20], labels[:20], CLASSES), [Rows()])
    reference_features(open_samples_of("digits", count=20), [Pixels()])
    assert not cache.exists()
    fast, slow = Pixels(), Rows()
    both = reference_features(open_samples_of("digits", count=20), [fast, slow])
    again = reference_features(open_samples_of("digits", count=20), [fast, slow])
    assert slow.calls == 1 and [one.info.name for one in again] == ["pixels", "rows"]
    for one, other in zip(both, again, strict=True):
        assert one.values is not None and other.values is not None and torch.equal(one.values, other.values)


def cached_on_ranks(folder):
    os.environ["ACDIT_CACHE"] = folder  # the server that forks the ranks has an older environment
    ranks = launched()
    extractor = Rows()
    with ranks.joined():
        sets = [
            reference_features(open_samples_of("digits", count=21), [extractor], 5, ranks)[0]
            for _ in range(2)
        ]
    tensors = [one for each in sets for one in (each.values, each.logits, each.labels)]
    return extractor.calls, [one.numpy() for one in tensors if one is not None]


def test_ranks_share_what_the_first_finds_in_the_cache(cache):
    expected = extract(open_samples_of("digits", count=21), Rows())
    for calls, arrays in on_ranks(cached_on_ranks, 2, str(cache)):
        assert calls in (2, 3)  # of five batches, once
        for array, one in zip(arrays, [expected.values, expected.logits, expected.labels] * 2, strict=True):
            assert one is not None and np.allclose(array, one.numpy(), rtol=1e-5, atol=1e-6)


def written(path, with_items=False, extractor=None):
    samples = open_samples_of("digits", count=100)
    features = extract(samples, extractor or Rows())
    write_reference(path, features, samples.shape, samples.describe(), with_items=with_items)
    return samples, features


@pytest.mark.parametrize("with_items", [False, True])
def test_a_file_holds_what_was_computed_and_says_of_what(tmp_path, with_items):
    samples, features = written(tmp_path / "stats.npz", with_items)
    with np.load(tmp_path / "stats.npz", allow_pickle=False) as held:
        rows = features.values
        assert rows is not None and np.allclose(held["mu"], rows.double().numpy().mean(0), rtol=1e-12)
        assert np.allclose(held["sigma"], np.cov(rows.double().numpy().T), rtol=1e-9)
        assert sorted(held) == (["features", "labels", "logits"] if with_items else []) + ["mu", "sigma"]
    stored = open_reference(str(tmp_path / "stats.npz"))
    assert isinstance(stored, StoredReference) and stored.info == features.info and len(stored) == 100
    assert stored.shape == (1, 8, 8) and stored.notes == () and stored.describe()["count"] == 100
    assert stored.describe()["data"]["name"] == "digits, held out"
    answer = stored.features(Rows())
    assert torch.equal(answer.statistics.covariance, features.statistics.covariance)
    assert (answer.values is None) == (not with_items)
    if with_items:
        assert same(answer, features)
    report = evaluate_samples(samples, stored, [Rows()], ["frechet_distance"])
    assert abs(report.score("frechet_distance").value) < 1e-9
    assert report.reference["count"] == 100 and report.score("frechet_distance").reference == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "columns"}, "holds features rows, but those of the samples are columns: name rows instead"),
        ({"version": "2"}, "version 1 instead of 2"),
        ({"resizing": "bicubic"}, "resizing none instead of bicubic"),
        ({"input_size": 299}, "input_size None instead of 299"),
        ({"precision": "bfloat16"}, "precision float32 instead of bfloat16"),
    ],
)
def test_statistics_of_other_features_are_refused_before_any_are_computed(tmp_path, changes, message):
    samples, _ = written(tmp_path / "stats.npz")
    extractor = Rows(**changes)
    with pytest.raises(UserError, match=message):
        evaluate_samples(samples, StoredReference(tmp_path / "stats.npz"), [extractor])
    assert extractor.calls == 0
    large = TensorSamples(torch.rand(9, 1, 16, 16))
    with pytest.raises(UserError, match="reference data are of 8x8 pixels, but the samples of 16x16"):
        evaluate_samples(large, StoredReference(tmp_path / "stats.npz"), [Rows()])
    with pytest.raises(UserError, match="precision_recall on the features rows needs"):
        evaluate_samples(samples, StoredReference(tmp_path / "stats.npz"), [Rows()], ["precision_recall"])
    assert evaluate_samples(samples, StoredReference(tmp_path / "stats.npz"), [Rows(licence="other")]).scores


def test_statistics_of_other_programs_are_taken_with_a_note(tmp_path):
    samples = open_samples_of("digits", count=100)
    features = extract(samples, Rows())
    mean, covariance = features.statistics.mean.numpy(), features.statistics.covariance.numpy()
    np.savez(tmp_path / "a.npz", mu=mean, sigma=covariance, mu_s=mean[:2], sigma_s=covariance[:2])
    stored = open_reference(str(tmp_path / "a.npz"))
    assert isinstance(stored, StoredReference) and stored.info is None and len(stored) == 0
    report = evaluate_samples(samples, stored, [Rows()], ["frechet_distance"])
    assert abs(report.score("frechet_distance").value) < 1e-9
    assert report.score("frechet_distance").reference is None
    assert any("does not say which features" in note for note in report.notes)
    assert json.loads(json.dumps(report.to_json()))["reference"]["count"] is None
    default = evaluate_samples(samples, stored, [Rows()])
    assert default.score("frechet_distance").value == report.score("frechet_distance").value
    assert {score.metric for score in default.scores}.isdisjoint(("precision", "kernel_distance"))
    with pytest.raises(UserError, match=r"a\.npz holds statistics of features, not pictures"):
        stored.batches(4)
    with pytest.raises(UserError, match=r"reference data have 8 features pixels each.* samples have 64"):
        evaluate_samples(samples, stored, [Pixels()])


def test_pictures_beside_statistics_serve_all_features_but_inception(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", arr_0=pixels, mu=np.zeros(8), sigma=np.eye(8))
    stored = open_reference(str(tmp_path / "a.npz"))
    samples = open_samples_of("digits", count=30)
    rows = evaluate_samples(samples, stored, [Rows()], ["frechet_distance", "precision_recall"])
    own = open_samples_of(str(tmp_path / "a.npz"))
    expected = evaluate_samples(samples, own, [Rows()], ["frechet_distance", "precision_recall"])
    for one, other in zip(rows.scores, expected.scores, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-9)
    inception = Rows(name="inception")
    found = evaluate_samples(samples, stored, [inception], ["frechet_distance", "precision_recall"])
    alone = tmp_path / "b.npz"
    np.savez(alone, mu=np.zeros(8), sigma=np.eye(8))
    other = evaluate_samples(samples, open_reference(str(alone)), [inception], ["frechet_distance"])
    assert found.score("frechet_distance").value == other.score("frechet_distance").value
    assert found.score("frechet_distance").value != pytest.approx(expected.score("frechet_distance").value)
    assert found.score("precision").value == expected.score("precision").value


def bad(**changes):
    arrays = {"mu": np.zeros(3), "sigma": np.eye(3), **changes}
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (bad(mu=np.array([0, np.nan, 0])), "values in mu that are not finite"),
        (bad(sigma=np.full((3, 3), np.inf)), "values in sigma that are not finite"),
        (bad(sigma=np.arange(9.0).reshape(3, 3)), "sigma that is not symmetric"),
        (bad(sigma=-np.eye(3)), "sigma with negative variances"),
        (bad(mu=np.zeros(4)), r"mu of shape \(4,\) and sigma of shape \(3, 3\)"),
        (bad(sigma=np.eye(3)[:2]), r"must be \(F,\) and \(F, F\)"),
        (bad(mu=np.zeros(0), sigma=np.zeros((0, 0))), r"must be \(F,\)"),
        (bad(mu=np.zeros((3, 1))), r"must be \(F,\)"),
        (bad(mu=np.zeros(3, dtype=int)), "must be floating-point numbers"),
        (bad(sigma=np.eye(3) * 1j), "must be floating-point numbers"),
        (bad(sigma=None), "no array sigma"),
        (bad(mu=None), "no array mu"),
        (bad(sigma=np.array([[None] * 3] * 3)), r"Python objects \(pickles\) in sigma"),
        (bad(arr_0=np.zeros((2, 4, 4, 3))), "arr_0 must be uint8"),
    ],
)
def test_wrong_statistics_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message):
        open_reference(str(tmp_path / "a.npz"))


def rewritten(path, change):
    with zipfile.ZipFile(path, "a") as archive:
        facts = json.loads(archive.comment)
        change(facts)
        archive.comment = json.dumps(facts).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.pop("features"), "lacks 'features'"),
        (lambda facts: facts["features"].pop("version"), "lacks 'version'"),
        (lambda facts: facts["features"].update(input_size="x"), "input_size must be"),
        (lambda facts: facts.update(count=-1), "count must be"),
        (lambda facts: facts.update(shape=[8, "8"]), "shape must be"),
        (lambda facts: facts.update(format_version=2), "update acdit"),
    ],
)
def test_damaged_descriptions_are_refused(tmp_path, change, message):
    written(tmp_path / "a.npz")
    rewritten(tmp_path / "a.npz", change)
    with pytest.raises(UserError, match=message):
        open_reference(str(tmp_path / "a.npz"))


def test_items_that_do_not_fit_the_statistics_are_refused(tmp_path):
    written(tmp_path / "a.npz", with_items=True)
    rewritten(tmp_path / "a.npz", lambda facts: facts.update(count=99))
    stored = open_reference(str(tmp_path / "a.npz"))
    assert isinstance(stored, StoredReference)
    with pytest.raises(UserError, match="features are not those of 99 items of 8 features"):
        stored.features(Rows())


def test_only_own_files_are_replaced(tmp_path):
    path = tmp_path / "a.npz"
    check_replaceable_reference(path)
    written(path)
    check_replaceable_reference(path)
    for content in (b"text", b""):
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=r"exists and cannot be checked .* is damaged: .*: choose another"
        ):
            check_replaceable_reference(path)
    np.savez(path, mu=np.zeros(2), sigma=np.eye(2))
    with pytest.raises(UserError, match="exists and is no file"):
        check_replaceable_reference(path)


class Halves(Rows):
    """The features of the upper and the lower half of an image, as two items."""

    def __call__(self, samples, /):
        halves = torch.stack(samples.chunk(2, dim=2), dim=1)  # (n, 2, C, H / 2, W)
        return Features(halves.mean(dim=(2, 4)), samples.flatten(1)[:, :10])


def test_items_that_belong_to_one_sample_are_known_from_the_cache_and_from_files(tmp_path):
    samples = open_samples_of("digits", count=20)
    (computed,) = reference_features(samples, [Halves()])
    (features,) = reference_features(samples, [Halves()])
    assert computed.parts == features.parts == 2 and len(features) == 40
    write_reference(tmp_path / "a.npz", features, samples.shape, samples.describe(), with_items=True)
    stored = StoredReference(tmp_path / "a.npz").features(Halves())
    assert stored.parts == 2 and len(stored) == 40


def test_published_statistics_are_the_reference_however_few_samples_there_are():
    """Files of ADM hold them beside pictures, which are fewer than the images of the statistics."""
    generator = torch.Generator().manual_seed(0)
    every, drawn = (torch.randn(count, 16, generator=generator, dtype=torch.float64) for count in (200, 6))
    whole, info = Statistics.of(every), Rows().info
    published = Statistics(0, whole.mean, whole.covariance)  # their number is not stored
    reference = FeatureSet(info, published, every[:4], None, None, 1)
    samples = FeatureSet(info, None, drawn, None, None, 1)
    (value,) = METRICS["frechet_distance"].compute(Sets(samples, reference), 0)
    assert value == pytest.approx(frechet_distance(samples.statistics, whole), rel=1e-9)
