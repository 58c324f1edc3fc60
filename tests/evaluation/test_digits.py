"""The scores must tell good samples from each kind of bad ones, on real digits."""

import json

import pytest
import torch

from acdit.data.digits import LABEL_NAMES
from acdit.evaluation.comparison import Comparison, compare
from acdit.evaluation.real_sets import Geometry, RealSets, open_real_sets
from acdit.evaluation.report import format_table
from acdit.evaluation.samples import TensorSamples
from acdit.metrics.distances import frechet
from acdit.metrics.neighbours import nearest_ratio, spread
from tests.tiny import given


def digits(part, *counts: int) -> TensorSamples:
    """A part of the digits, cut to each of the counts in turn."""
    images, labels = part
    for count in counts:
        images, labels = spread(images, count), spread(labels, count)
    return TensorSamples(images, labels, LABEL_NAMES)


@pytest.fixture(scope="module")
def score(train, held_out):
    def score(samples, labels, reference=held_out):
        """Scores by metric, with `pixels` or `real` after the name, of samples beside as many real digits."""
        count, most = len(samples), min(len(train[0]), len(reference[0]))
        sets = RealSets(
            digits(reference, count),
            count,
            digits(train, most, count),
            digits(train),
            digits(reference),
            digits(train),
        )
        report = compare(TensorSamples(samples, labels, LABEL_NAMES), sets, Comparison())
        assert json.loads(json.dumps(report.to_json(), allow_nan=False))["settings"] == {"seed": 0}
        scores = {}
        for one in report.scores:
            name = one.metric if one.features == "digit-classifier" else f"{one.metric} {one.features}"
            scores |= {name: one.value, f"{name} real": one.real}
        return scores

    return score


def test_unseen_digits_pass(score, held_out):
    """Half of the held-out digits as samples, compared with the other half."""
    (samples, reference), (labels, others) = ((part[:358:2], part[1:358:2]) for part in held_out)
    scores = score(samples, labels, (reference, others))
    assert scores["label_accuracy real"] > 0.97
    assert scores["label_accuracy"] > 0.97
    assert scores["coverage"] > 0.9 and scores["coverage real"] > 0.9
    assert scores["density"] == pytest.approx(1, abs=0.2)
    assert scores["frechet_distance"] < 2 * scores["frechet_distance real"]
    assert scores["nearest_ratio pixels"] == pytest.approx(1, abs=0.06)
    assert scores["nearest_ratio"] == pytest.approx(1, abs=0.1)
    assert scores["copied_fraction pixels"] == 0


def test_copied_training_digits_fail(score, train, held_out):
    chosen = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(0))[: len(held_out[0])]
    scores = score(train[0][chosen], train[1][chosen])
    assert scores["label_accuracy"] > 0.98 and scores["coverage"] > 0.9  # only memorisation tells
    assert scores["nearest_ratio pixels"] < 0.85
    assert scores["nearest_ratio"] < 0.85
    assert scores["copied_fraction pixels"] > 0.99
    seen = torch.arange(len(held_out[0])) * len(train[0]) // len(held_out[0])  # those that the ratio looks at
    assert score(train[0][seen], train[1][seen])["nearest_ratio pixels"] < 0.01


def test_class_means_fail(score, train, held_out):
    means = torch.stack([train[0][train[1] == label].mean(dim=0) for label in range(10)])
    scores = score(means[held_out[1]], held_out[1])
    assert scores["coverage"] < 0.3
    assert scores["frechet_distance"] > 5 * scores["frechet_distance real"]
    assert scores["copied_fraction pixels"] == 0


def test_noise_fails(score, held_out):
    noise = torch.rand(held_out[0].shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scores = score(noise, held_out[1])
    assert scores["label_accuracy"] < 0.3
    assert scores["coverage"] < 0.2
    assert scores["frechet_distance"] > 20 * scores["frechet_distance real"]


def test_wrong_labels_fail(score, held_out):
    assert score(held_out[0], (held_out[1] + 1) % 10)["label_accuracy"] < 0.02


def test_real_scores_do_not_depend_on_the_samples(score, held_out):
    images, labels = held_out
    real = [
        {name: value for name, value in scores.items() if name.endswith("real")}
        for scores in (score(images, labels), score(-images, labels))
    ]
    assert real[0] == real[1] and real[0]["frechet_distance real"] > 0


def test_few_samples_are_compared_with_as_few_real_digits(score, train, held_out, judge):
    few = slice(0, 40)
    scores = score(held_out[0][few].flip(-1), held_out[1][few])
    as_few = [judge.features(spread(spread(images, 359), 40)) for images in (train[0], held_out[0])]
    assert scores["frechet_distance real"] == pytest.approx(frechet(*as_few), rel=1e-3)
    features = judge.features(held_out[0][few].flip(-1))
    assert scores["frechet_distance"] == pytest.approx(frechet(features, as_few[1]), rel=1e-3)
    pixels = [images.flatten(1) for images in (held_out[0][few].flip(-1), train[0], held_out[0])]
    assert scores["nearest_ratio pixels"] == pytest.approx(nearest_ratio(*pixels))  # which needs no such cut


def test_the_parts_of_digits_are_those_that_are_compared(train, held_out):
    """The sets of the built-in digits, with the real ones at even steps."""
    sets = open_real_sets("digits", Geometry(8, 1), count=40)
    first = {name: next(getattr(sets, name).batches(2000))[1] for name in ("reference", "real", "training")}
    assert torch.equal(first["reference"], spread(held_out[0], 40))
    assert torch.equal(first["real"], spread(spread(train[0], 359), 40))
    assert torch.equal(first["training"], train[0]) and len(given(sets.held_out)) == 359
    assert (len(open_real_sets("digits", Geometry(8, 1)).reference), sets.count) == (359, 40)


def test_a_table_is_aligned():
    rows = [
        {"block": "4x4", "samples": 359, "coverage": 0.98765},
        {"block": "16x16", "samples": 7, "coverage": 1.0},
    ]
    assert format_table(rows).split("\n") == [
        "block  samples  coverage",
        "4x4        359    0.9877",
        "16x16        7         1",
    ]
