"""Evaluation of classifiers: against the pipeline's logits, over batches and ranks, probes, and refusals."""

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from PIL import Image

from acdit.data.dataset import InMemoryDataset
from acdit.evaluation import class_tables, report
from acdit.evaluation.class_plots import plot_classes
from acdit.evaluation.classification import ClassificationSettings, evaluate_classifier
from acdit.evaluation.labelled_data import labelled_items
from acdit.utils.errors import UserError
from acdit.utils.ranks import launched
from tests.evaluation.classifiers import NAMES, PROBES, labelled_pictures, tiny_classifier
from tests.processes import on_ranks

NOISED = {"timestep": 200, "prediction_type": "epsilon"}


def report_of(pipe=None, data=None, **settings):
    pipe = tiny_classifier() if pipe is None else pipe
    items = labelled_items(pipe, labelled_pictures() if data is None else data)
    return evaluate_classifier(pipe, items, ClassificationSettings(**settings))


def table_of(result, name) -> Any:
    return next(table for table in result.tables if table.name == name)


def test_scores_are_those_of_the_logits():
    pipe, data = tiny_classifier(), labelled_pictures()
    result = report_of(pipe, data)
    logits = pipe.logits(data.data)[:, 0].numpy()
    labels, answers = data.labels.numpy(), logits.argmax(1)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert result.score("accuracy").value == sklearn.metrics.accuracy_score(labels, answers)
    top = sklearn.metrics.top_k_accuracy_score(labels, logits, k=5, labels=range(7))
    assert result.score("top_5_accuracy").value == top
    expected = sklearn.metrics.log_loss(labels, probabilities, labels=range(7))
    assert result.score("negative_log_likelihood").value == pytest.approx(expected, rel=1e-5)
    confusion = sklearn.metrics.confusion_matrix(labels, answers, labels=range(7))
    assert {
        row: count for *row, count in map(list, table_of(result, "confusion").rows) for row in [tuple(row)]
    } == {
        (NAMES[row], NAMES[column]): confusion[row, column]
        for row, column in zip(*confusion.nonzero(), strict=True)
    }
    bins = table_of(result, "reliability").rows
    assert [row[2] for row in bins] == np.histogram(probabilities.max(1), 15, (0, 1))[0].tolist()
    gap = sum(row[2] * abs(row[3] - row[4]) for row in bins if row[2]) / 11
    assert result.score("calibration_error").value == pytest.approx(gap)
    classes = table_of(result, "classes").rows
    assert [row[:2] for row in classes[:5]] == [(name, 1 + (row < 4)) for row, name in enumerate(NAMES[:5])]
    for score in result.scores[:3]:
        assert score.interval and score.interval.low <= score.value <= score.interval.high


def test_batches_do_not_change_the_scores():
    whole, parts = report_of(), report_of(batch=3)
    assert parts.tables[:2] == whole.tables[:2]
    for score, other in zip(whole.scores, parts.scores, strict=True):
        assert score.value == pytest.approx(other.value, rel=1e-6)
    assert report_of(count=4).samples["count"] == 4


def report_on_ranks():
    ranks = launched()
    with ranks.joined():
        result = report_of(tiny_classifier(**PROBES), batch=2, ranks=ranks)
        return [score.value for score in result.scores], result.tables


@pytest.mark.long
def test_ranks_find_the_scores_of_one():
    whole = report_of(tiny_classifier(**PROBES))
    for values, tables in on_ranks(report_on_ranks, 3):
        assert values == pytest.approx([score.value for score in whole.scores], rel=1e-6)
        assert tables[:3] == whole.tables[:3]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_top_five_needs_more_than_five_classes(count):
    few = NAMES[:count]
    result = report_of(tiny_classifier(few), labelled_pictures(names=few))
    assert {score.metric for score in result.scores} == {
        *("accuracy", "negative_log_likelihood", "calibration_error"),
    }
    with pytest.raises(UserError, match=f"needs more than 5 classes, but the model has {count}"):
        report_of(tiny_classifier(few), labelled_pictures(names=few), metrics=["top_5_accuracy"])


def test_probes_have_a_series_for_each_pooling():
    pipe, data = tiny_classifier(**PROBES), labelled_pictures()
    result = report_of(pipe, data, head=1)
    right = pipe.logits(data.data).argmax(2) == data.labels[:, None]
    accuracies = right.double().mean(0).tolist()
    assert len(set(accuracies)) > 1
    mean, attention = result.series
    assert (mean.metric, mean.axis, mean.positions) == ("accuracy_mean", "layer", (0, 1, 2))
    assert (attention.metric, attention.positions) == ("accuracy_attention", (1, 2))
    assert (*mean.values, *attention.values) == pytest.approx(tuple(accuracies))
    assert result.score("accuracy").value == pytest.approx(accuracies[1])
    assert [row[:3] for row in table_of(result, "heads").rows] == [
        *((head, head, "mean") for head in range(3)),
        (3, 1, "attention"),
        (4, 2, "attention"),
    ]
    assert "the scores are those of head 1, mean pooling of layer 1" in result.notes
    assert report_of(pipe, data).settings["head"] == 4
    for head in (5, -6):
        with pytest.raises(UserError, match=rf"there is no head {head}: the model has 5, 0 \(mean pooling"):
            report_of(pipe, data, head=head)


def test_accuracy_by_timestep_is_that_of_networks_at_these_timesteps():
    def sharp(timestep):
        pipe = tiny_classifier(layers=[0], **(NOISED | {"timestep": timestep}))
        pipe.classifier.heads[0].linear.bias.data.zero_()  # pyright: ignore
        return pipe

    pipe, images = sharp(200), labelled_pictures(40).data
    data = InMemoryDataset(images, pipe.logits(images).argmax(2)[:, 0], NAMES)
    result = report_of(pipe, data, timesteps=(900.0, 200.0, 0.0))
    (series,) = result.series
    assert (series.axis, series.positions) == ("timestep", (0, 200, 900))
    for timestep, value in zip(series.positions, series.values, strict=True):
        assert report_of(sharp(timestep), data).score("accuracy").value == value
    assert series.values[1] == 1 > series.values[2]
    assert pipe.classifier.config["timestep"] == 200
    assert result.score("accuracy").value == series.values[1]
    with pytest.raises(UserError, match="from 0 to below 1000, not 1000"):
        report_of(pipe, data, timesteps=(1000.0,))
    with pytest.raises(UserError, match="this one reads clean images"):
        report_of(timesteps=(100.0,))


def test_many_classes_are_printed_from_the_least_accurate():
    count = report.MOST_ROWS + 5
    confusion = torch.diag(torch.full((count,), 4))
    confusion[7, 7], confusion[7, 8], confusion[9] = 1, 3, 0
    classes, _ = class_tables.class_tables(confusion, [None] * count)
    assert classes.rows[0] == ("7", 4, 0.25, 1.0) and classes.rows[-1] == ("9", 0, None, None)
    lines = classes.lines()
    assert lines[-1] == f"the first 20 of {count} classes; JSON holds all" and len(lines) == 20 + 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ["acuracy"]}, "unknown metric 'acuracy' of classifiers; did you mean accuracy"),
        ({"metrics": []}, "no metric is named; there are accuracy"),
        ({"count": 12}, "has 11 samples, so 12"),
        ({"data": labelled_pictures(side=8)}, "must be 3x6x6, not 3x8x8"),
        ({"data": labelled_pictures(names=NAMES[:6])}, "class gum is removed"),
        ({"data": labelled_pictures(names=(*NAMES[:6], "oak"))}, "class oak is new, class gum is removed"),
        ({"data": InMemoryDataset(torch.zeros(2, 3, 6, 6), torch.zeros(2).long(), ())}, "has no classes"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        report_of(**settings)


def test_logits_that_are_not_finite_are_refused():
    pipe = tiny_classifier()
    pipe.classifier.heads[0].linear.bias.data[2] = math.nan  # pyright: ignore
    with pytest.raises(UserError, match="are not finite"):
        report_of(pipe)


def test_plots_go_to_one_file_or_to_a_folder(tmp_path):
    result = report_of(tiny_classifier(**PROBES))
    assert plot_classes(result, tmp_path / "all.png") == [tmp_path / "all.png"]
    files = plot_classes(result, tmp_path / "plots")
    assert [path.name for path in files] == ["confusion.png", "reliability.png", "layers.png"]
    widths = [Image.open(path).width for path in (tmp_path / "all.png", *files)]
    assert widths == [3 * 744, 744, 744, 744]
