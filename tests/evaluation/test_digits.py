"""The scores must tell good samples from each kind of bad ones, on real digits."""

import json

import pytest
import torch

from acdit.evaluation.digits import score_digits
from acdit.evaluation.report import format_table
from acdit.metrics.distances import frechet
from acdit.metrics.neighbours import nearest_ratio, spread
from acdit.utils.errors import UserError


@pytest.fixture(scope="module")
def score(train, held_out, judge):
    def score(samples, labels, reference=held_out):
        scores = score_digits(samples, labels, train=train, held_out=reference, classifier=judge)
        assert json.loads(json.dumps(scores, allow_nan=False)) == scores
        return scores

    return score


def test_unseen_digits_pass(score, held_out):
    """Half of the held-out digits as samples, compared with the other half."""
    (samples, reference), (labels, others) = ((part[:358:2], part[1:358:2]) for part in held_out)
    scores = score(samples, labels, (reference, others))
    assert scores["samples"] == 179
    assert scores["judge_accuracy_held_out"] > 0.97
    assert scores["label_accuracy"] > 0.97
    assert scores["judge_coverage"] > 0.9 and scores["judge_coverage_real"] > 0.9
    assert scores["judge_density"] == pytest.approx(1, abs=0.2)
    assert scores["judge_frechet_distance"] < 2 * scores["judge_frechet_distance_real"]
    assert scores["memorisation_ratio_pixels"] == pytest.approx(1, abs=0.06)
    assert scores["memorisation_ratio_judge"] == pytest.approx(1, abs=0.1)
    assert scores["copied_share_pixels"] == 0


def test_copied_training_digits_fail(score, train, held_out):
    chosen = torch.randperm(len(train[0]), generator=torch.Generator().manual_seed(0))[: len(held_out[0])]
    scores = score(train[0][chosen], train[1][chosen])
    assert scores["label_accuracy"] > 0.98 and scores["judge_coverage"] > 0.9  # only memorisation tells
    assert scores["memorisation_ratio_pixels"] < 0.85
    assert scores["memorisation_ratio_judge"] < 0.85
    assert scores["copied_share_pixels"] > 0.99
    seen = torch.arange(len(held_out[0])) * len(train[0]) // len(held_out[0])  # those that the ratio looks at
    assert score(train[0][seen], train[1][seen])["memorisation_ratio_pixels"] < 0.01


def test_class_means_fail(score, train, held_out):
    means = torch.stack([train[0][train[1] == label].mean(dim=0) for label in range(10)])
    scores = score(means[held_out[1]], held_out[1])
    assert scores["judge_coverage"] < 0.3
    assert scores["judge_frechet_distance"] > 5 * scores["judge_frechet_distance_real"]
    assert scores["copied_share_pixels"] == 0


def test_noise_fails(score, held_out):
    noise = torch.rand(held_out[0].shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scores = score(noise, held_out[1])
    assert scores["label_accuracy"] < 0.3
    assert scores["judge_coverage"] < 0.2
    assert scores["judge_frechet_distance"] > 20 * scores["judge_frechet_distance_real"]


def test_wrong_labels_fail(score, held_out):
    assert score(held_out[0], (held_out[1] + 1) % 10)["label_accuracy"] < 0.02


def test_real_scores_do_not_depend_on_the_samples(score, held_out):
    images, labels = held_out
    real = [
        {name: value for name, value in scores.items() if "real" in name or "held_out" in name}
        for scores in (score(images, labels), score(-images, labels))
    ]
    assert real[0] == real[1] and len(real[0]) == 4


def test_few_samples_are_compared_with_as_few_real_digits(score, train, held_out, judge):
    few = slice(0, 40)
    scores = score(held_out[0][few].flip(-1), held_out[1][few])
    assert scores["samples"] == 40
    as_few = [judge.features(spread(spread(images, 359), 40)) for images in (train[0], held_out[0])]
    assert scores["judge_frechet_distance_real"] == pytest.approx(frechet(*as_few), rel=1e-3)
    features = judge.features(held_out[0][few].flip(-1))
    assert scores["judge_frechet_distance"] == pytest.approx(frechet(features, as_few[1]), rel=1e-3)
    pixels = [images.flatten(1) for images in (held_out[0][few].flip(-1), train[0], held_out[0])]
    assert scores["memorisation_ratio_pixels"] == nearest_ratio(*pixels)  # which needs no such cut


def test_samples_that_do_not_fit_are_errors(score, held_out):
    images, labels = held_out
    for samples, names, message in (
        (images.repeat(1, 3, 1, 1), labels, r"\(N, 1, 8, 8\).*not \(359, 3, 8, 8\)"),
        (images[..., :7], labels, "not \\(359, 1, 8, 7\\)"),
        (images, labels[:-1], "not 358"),
        (images[:5], labels[:5], "must be 6 to 359,.*not 5"),
        (torch.cat([images, images[:1]]), torch.cat([labels, labels[:1]]), "must be 6 to 359,.*not 360"),
    ):
        with pytest.raises(UserError, match=message):
            score(samples, names)


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
