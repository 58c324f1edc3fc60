"""evaluate_samples: which metrics are computed, on which sets, and what stands beside them."""

import json
from dataclasses import replace

import pytest
import torch

from acdit.evaluation.data_samples import open_data
from acdit.evaluation.evaluate import evaluate_samples
from acdit.evaluation.extraction import extract
from acdit.evaluation.features.extractor import FeatureInfo, Features
from acdit.evaluation.features.pixels import Pixels
from acdit.evaluation.metric_table import METRICS
from acdit.evaluation.samples import TensorSamples
from acdit.metrics.distances import cmmd, frechet, kernel_distance, sliced_wasserstein
from acdit.metrics.inception_score import inception_score
from acdit.metrics.neighbours import copied_share, coverage_density, nearest_ratio, precision_recall, spread
from acdit.utils.errors import UserError
from acdit.utils.randomness import generator
from tests.tiny import given

NAMES = ("dark", "light")


class Halves:
    """Extractor of the means of both halves of an image; its logits tell dark from light images."""

    info = FeatureInfo("halves", "1", None, "none", "float32", "none needed")
    classes: tuple[str, ...] = NAMES

    def __call__(self, samples: torch.Tensor, /) -> Features:
        halves = samples.flatten(1).unflatten(1, (2, -1)).mean(dim=2)
        return Features(halves, torch.stack([-samples.mean((1, 2, 3)), samples.mean((1, 2, 3))], dim=1))


def images(count: int, seed: int, size: int = 4) -> TensorSamples:
    random = torch.Generator().manual_seed(seed)
    levels = torch.rand(count, 1, 1, 1, generator=random) - 0.5
    pixels = (levels + torch.randn(count, 1, size, size, generator=random) / 5).clamp(-1, 1)
    return TensorSamples(pixels, (levels.flatten() > 0).long(), NAMES, name=f"images {seed}")


def rows(samples: TensorSamples) -> torch.Tensor:
    return given(extract(samples, Pixels()).values)


SAMPLES, REFERENCE, REAL, TRAINING = images(40, 1), images(50, 2), images(40, 3), images(60, 4)


def test_every_metric_is_computed_on_its_sets():
    report = evaluate_samples(
        SAMPLES, REFERENCE, ["pixels"], list(METRICS)[:6], real=REAL, training=TRAINING, seed=5
    )
    x, y, z = rows(SAMPLES), rows(REFERENCE), rows(REAL)
    for score in report.scores:
        assert (score.features, score.samples) == ("pixels", 40)
        assert score.reference == (40 if score.metric == "sliced_wasserstein" else 50)
    for name, metric in (("frechet_distance", frechet), ("kernel_distance", kernel_distance), ("cmmd", cmmd)):
        score = report.score(name)
        assert (score.value, score.real) == pytest.approx((metric(x, y), metric(z, y)))
    expected = [sliced_wasserstein(one, spread(y, 40), seed=5) for one in (x, z)]
    assert [report.score("sliced_wasserstein").value, report.score("sliced_wasserstein").real] == expected
    for number, name in enumerate(("precision", "recall")):
        values = [precision_recall(y, one, 3)[number] for one in (x, z)]
        assert [report.score(name).value, report.score(name).real] == values
    for number, name in enumerate(("coverage", "density")):
        values = [coverage_density(y, one, 5)[number] for one in (x, z)]
        assert [report.score(name).value, report.score(name).real] == values


def test_scores_of_classes_and_of_copies():
    wanted = ["inception_score", "label_accuracy", "nearest_ratio", "copied_fraction"]
    report = evaluate_samples(SAMPLES, REFERENCE, [Halves()], wanted, real=REAL, training=TRAINING)
    x, y, z, t = (extract(one, Halves()) for one in (SAMPLES, REFERENCE, REAL, TRAINING))
    for number, name in enumerate(("inception_score", "inception_score_deviation")):
        order = torch.randperm(len(x), generator=generator(0, "inception score"))
        expected = [inception_score(given(one.logits)[order])[number] for one in (x, z)]
        assert [report.score(name).value, report.score(name).real] == expected
    accuracies = [float((given(one.logits).argmax(1) == one.labels).double().mean()) for one in (x, y)]
    accuracy = report.score("label_accuracy")
    assert [accuracy.value, accuracy.real] == accuracies and accuracy.reference is None
    ratio, copies = report.score("nearest_ratio"), report.score("copied_fraction")
    samples, reference, real, training = (given(one.values) for one in (x, y, z, t))
    assert ratio.value == nearest_ratio(samples, training, reference)
    assert ratio.real == nearest_ratio(real, training, reference)
    assert [copies.value, copies.real] == [copied_share(one, training) for one in (samples, real)]


def test_the_inception_score_does_not_depend_on_the_order_of_classes():
    """Classes one after another would make every part of the set a single class, whose score is 1."""

    class Logits(Halves):
        def __call__(self, samples):
            return Features(samples.flatten(1), 50.0 * samples.flatten(1)[:, :10])

    sorted_classes = torch.eye(10).repeat_interleave(40, 0).view(400, 1, 2, 5)
    report = evaluate_samples(TensorSamples(sorted_classes), None, [Logits()], ["inception_score"])
    assert 8 < report.score("inception_score").value < 10


def test_real_data_are_not_looked_for_among_themselves():
    report = evaluate_samples(SAMPLES, None, [Halves()], real=REAL, training=REAL, held_out=REFERENCE)
    assert report.score("nearest_ratio").real is None and report.score("copied_fraction").real is None
    assert report.score("nearest_ratio").value > 0
    held_out = evaluate_samples(SAMPLES, None, [Halves()], real=REAL, training=TRAINING, held_out=REAL)
    assert held_out.score("nearest_ratio").real is None


@pytest.mark.parametrize(("name", "expected"), [("clip-classifier", False), ("clip-vit-b-32-224", True)])
def test_cmmd_is_computed_on_features_of_clip_alone(name, expected):
    extractor = Halves()
    extractor.info = replace(Halves.info, name=name)
    report = evaluate_samples(SAMPLES, REFERENCE, [extractor])
    assert ("cmmd" in {score.metric for score in report.scores}) is expected


def test_without_names_all_metrics_whose_needs_are_met():
    def metrics(*args, **kwargs) -> set[str]:
        return {score.metric for score in evaluate_samples(*args, **kwargs).scores}

    distances = {"frechet_distance", "kernel_distance", "sliced_wasserstein"}
    neighbours = {"precision", "recall", "coverage", "density"}
    classes = {"inception_score", "inception_score_deviation", "label_accuracy"}
    copies = {"nearest_ratio", "copied_fraction"}
    assert metrics(SAMPLES, REFERENCE, ["pixels"]) == distances | neighbours  # CMMD is for features of CLIP
    assert metrics(SAMPLES, None, [Halves()]) == classes
    assert metrics(SAMPLES, REFERENCE, ["pixels"], training=TRAINING) == distances | neighbours | copies
    assert metrics(SAMPLES, None, ["pixels"], training=TRAINING) == {"copied_fraction"}
    assert metrics(images(3, 1), REFERENCE, ["pixels"]) == distances | {"coverage", "density"}
    statistics = extract(REFERENCE, Pixels())
    stored = type(statistics)(statistics.info, statistics.statistics)  # mean and covariance alone
    assert metrics(SAMPLES, stored, ["pixels"]) == {"frechet_distance"}
    unlabelled = TensorSamples(torch.zeros(20, 1, 4, 4))
    assert metrics(unlabelled, None, [Halves()]) == classes - {"label_accuracy"}


def test_single_scores_can_be_requested():
    report = evaluate_samples(SAMPLES, REFERENCE, ["pixels"], ["recall", "density", "recall"])
    assert [score.metric for score in report.scores] == ["recall", "density"]
    assert report.score("recall").value == precision_recall(rows(REFERENCE), rows(SAMPLES))[1]


def test_a_report_says_what_it_depends_on():
    report = evaluate_samples(SAMPLES, REFERENCE, ["pixels", Halves()], ["frechet_distance"], seed=3)
    stored = json.loads(json.dumps(report.to_json()))
    assert [score["features"] for score in stored["scores"]] == ["pixels", "halves"]
    assert stored["features"]["halves"] == Halves.info.to_json()
    assert stored["settings"] == {"seed": 3}
    assert stored["samples"] == {"name": "images 1", "count": 40}
    assert stored["reference"] == {"name": "images 2", "count": 50}
    assert {"acdit", "torch", "python"} == set(stored["versions"])
    assert "other real data than the reference" in report.table()
    assert not evaluate_samples(SAMPLES, REFERENCE, ["pixels"], ["frechet_distance"], real=REAL).notes


class Counted(TensorSamples):
    """Samples that count how often they are read."""

    reads = 0

    def batches(self, size: int, rank: int = 0, ranks: int = 1):
        self.reads += 1
        return super().batches(size, rank, ranks)


def test_a_set_of_several_names_is_read_once():
    reference = Counted(torch.rand(20, 1, 4, 4), name="reference")
    evaluate_samples(SAMPLES, reference, ["pixels"], training=reference, held_out=reference)
    assert reference.reads == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["frechet"]}, "unknown metric 'frechet'; did you mean frechet_distance"),
        ({"metrics": ["precison"]}, "did you mean precision\\?"),
        ({"metrics": []}, "no metric is named"),
        ({"features": []}, "no features are named"),
        ({"features": ["pixels", "pixels"]}, "pixels are named twice"),
        ({"features": ["pixel"]}, "did you mean pixels"),
        ({"reference": None}, "no metric can be computed"),
        ({"reference": None, "metrics": ["recall"]}, "precision_recall needs a reference$"),
        ({"metrics": ["copied_fraction"]}, "copied_fraction needs the data that the model was trained on"),
        (
            {"reference": None, "metrics": ["nearest_ratio"], "training": TRAINING},
            "nearest_ratio needs held-out data, or a reference",
        ),
        ({"metrics": ["inception_score"]}, "on the features pixels needs features with logits of classes"),
        ({"metrics": ["label_accuracy"], "features": [Halves()], "samples": images(9, 1)}, None),
        (
            {
                "metrics": ["label_accuracy"],
                "features": [Halves()],
                "samples": TensorSamples(torch.zeros(9, 1, 4, 4)),
            },
            "needs samples with labels of the classes that the features recognise",
        ),
        ({"metrics": ["precision"], "samples": images(3, 1)}, "needs at least 4 samples, not 3"),
        (
            {"metrics": ["coverage"], "reference": images(5, 1)},
            "needs at least 6 items of the reference, not 5",
        ),
        (
            {"metrics": ["inception_score"], "features": [Halves()], "samples": images(9, 1)},
            "needs at least 10 samples, not 9",
        ),
        (
            {"metrics": ["copied_fraction"], "training": images(2, 1), "samples": images(2, 1)},
            None,
        ),
        ({"real": REFERENCE}, "must be other data than the reference"),
        ({"real": TRAINING}, "must be as many as these, 40, not 60"),
        (
            {"reference": images(50, 2, size=6)},
            "reference data are of 6x6 pixels, but the samples of 4x4",
        ),
        (
            {"reference": extract(images(50, 2, size=6), Pixels())},
            "reference data have 36 features pixels each.* samples have 16",
        ),
        (
            {"reference": extract(REFERENCE, Halves())},
            "reference data are not those of the samples, pixels: name halves instead of pixels",
        ),
    ],
)
def test_what_cannot_be_computed_is_an_error(changes, message):
    arguments = {"samples": SAMPLES, "reference": REFERENCE, "features": ["pixels"], **changes}
    if message is None:
        assert evaluate_samples(**arguments).scores
        return
    with pytest.raises(UserError, match=message):
        evaluate_samples(**arguments)


def test_statistics_alone_do_not_serve_for_neighbours():
    features = extract(REFERENCE, Pixels())
    stored = type(features)(features.info, features.statistics)
    report = evaluate_samples(SAMPLES, stored, ["pixels"], ["frechet_distance"], real=REAL)
    assert report.score("frechet_distance").value == frechet(rows(SAMPLES), rows(REFERENCE))
    assert report.score("frechet_distance").real == frechet(rows(REAL), rows(REFERENCE))
    with pytest.raises(UserError, match="needs the items of a reference, not their mean and covariance"):
        evaluate_samples(SAMPLES, stored, ["pixels"], ["recall"])


def test_parts_of_the_training_data_have_no_value_as_copies_of_them():
    """Digits of the training part are the real data: each is found again in the training part."""
    training = open_data("digits", size=None, split="train")
    real, other = training.taken(range(0, 40, 2)), training.taken(range(1, 40, 2))
    assert training.shares_items(real) and real.shares_items(training) and not real.shares_items(other)
    held_out = open_data("digits", size=None)
    report = evaluate_samples(
        TensorSamples(torch.zeros(20, 1, 8, 8)), held_out, ["pixels"], real=real, training=training
    )
    assert report.score("nearest_ratio").real is report.score("copied_fraction").real is None
    assert report.score("frechet_distance").real is not None
    apart = evaluate_samples(
        TensorSamples(torch.zeros(20, 1, 8, 8)), held_out, ["pixels"], real=real, training=other
    )
    assert apart.score("nearest_ratio").real is not None
