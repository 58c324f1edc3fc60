"""Metrics of classifiers, against scikit-learn, SciPy, loops and closed forms."""

import math
import warnings

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics
import torch

from acdit.metrics.classification import (
    assigned_classes,
    class_ranks,
    class_table,
    confusion_matrix,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
    top_accuracy,
    wilson_interval,
)
from acdit.utils.errors import UserError


def answers(count: int = 200, classes: int = 7, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that favour the right class, but not always."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes - 1, (count,), generator=source)  # the last class has no item
    logits = torch.randn(count, classes, generator=source, dtype=torch.float64)
    logits[torch.arange(count), labels] += 1
    logits[:, 0] -= 20  # and none is assigned to the first
    return logits, labels


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_top_accuracy_is_that_of_scikit_learn(k):
    logits, labels = answers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of k = K
        expected = sklearn.metrics.top_k_accuracy_score(labels, logits, k=k, labels=range(7))
    accuracy, error = top_accuracy(logits, labels, k)
    assert accuracy == pytest.approx(expected, abs=1e-12)
    hits = [label in np.argsort(-row)[:k] for row, label in zip(logits.numpy(), labels.tolist(), strict=True)]
    assert error == pytest.approx(np.std(hits) / math.sqrt(200), abs=1e-12)


def test_equal_scores_are_ranked_by_the_index_of_the_class():
    logits = torch.tensor([[1.0, 1, 1], [0, 2, 2], [2, 0, 2]])
    assert assigned_classes(logits).tolist() == [0, 1, 0]
    assert class_ranks(logits, torch.tensor([2, 2, 2])).tolist() == [2, 1, 1]
    constant = torch.zeros(10, 4)
    labels = torch.tensor([0, 1, 1, 1, 2, 2, 3, 3, 3, 3])
    assert [top_accuracy(constant, labels, k).value for k in (1, 2, 3, 4)] == [0.1, 0.4, 0.6, 1]


@pytest.mark.parametrize(("right", "count"), [(0, 5), (1, 9), (98, 100), (100, 100), (500, 1000)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_of_a_fraction_is_wilsons(right, count, level):
    expected = scipy.stats.binomtest(right, count).proportion_ci(level, "wilson")
    assert wilson_interval(right / count, count, level) == pytest.approx((expected.low, expected.high))


def test_confusion_and_the_table_of_classes_are_those_of_scikit_learn():
    logits, labels = answers()
    predicted = assigned_classes(logits)
    confusion = confusion_matrix(predicted, labels, 7)
    assert confusion.tolist() == sklearn.metrics.confusion_matrix(labels, predicted, labels=range(7)).tolist()
    table = class_table(confusion)
    precision, recall, _, counts = sklearn.metrics.precision_recall_fscore_support(
        labels,
        predicted,
        labels=range(7),
        zero_division=np.nan,  # pyright: ignore[reportArgumentType]
    )
    np.testing.assert_allclose(table.recall, recall)
    np.testing.assert_allclose(table.precision, precision)
    assert table.counts.tolist() == np.asarray(counts).tolist()
    assert math.isnan(table.recall[6]) and math.isnan(table.precision[0])


def test_the_likelihood_is_that_of_scikit_learn():
    logits, labels = answers()
    value, error = negative_log_likelihood(logits, labels)
    probabilities = scipy.special.softmax(logits.numpy(), axis=1)
    assert value == pytest.approx(sklearn.metrics.log_loss(labels, probabilities, labels=range(7)), rel=1e-9)
    losses = -np.log(probabilities[range(200), labels])
    assert error == pytest.approx(scipy.stats.sem(losses), rel=1e-9)
    assert negative_log_likelihood(torch.tensor([[-2000.0, 0]]), torch.tensor([0])).value == 2000


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_the_calibration_error_is_that_of_a_loop_over_items(bins):
    logits, labels = answers()
    members: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(scipy.special.softmax(logits.numpy(), axis=1), labels.tolist(), strict=True):
        members.setdefault(math.ceil(row.max() * bins) - 1, []).append(
            (row.max(), int(row.argmax()) == label)
        )
    curve = reliability(logits, labels, bins)
    total = 0.0
    for row in range(bins):
        items = np.array(members.get(row, []), dtype=float).reshape(-1, 2)
        assert curve.counts[row] == len(items)
        if len(items):
            np.testing.assert_allclose((curve.confidence[row], curve.accuracy[row]), items.mean(0))
            total += len(items) / 200 * abs(items[:, 0].mean() - items[:, 1].mean())
        else:
            assert math.isnan(curve.accuracy[row])
    assert expected_calibration_error(curve) == pytest.approx(total, abs=1e-12)


def test_confidence_on_an_edge_lies_in_the_lower_bin_and_all_of_it_in_the_last():
    logits = torch.tensor([[0.0, 0.0], [0.0, -math.inf]]).clamp(min=-1e4)
    assert reliability(logits, torch.tensor([0, 0]), 2).counts.tolist() == [1, 1]


def test_calibrated_answers_have_a_small_error_and_confident_ones_a_large_one():
    source = torch.Generator().manual_seed(0)
    logits = torch.randn(20000, 3, generator=source, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=source)[:, 0]
    assert expected_calibration_error(reliability(logits, labels)) < 0.02
    accuracy = top_accuracy(logits, labels).value
    confident = expected_calibration_error(reliability(1000 * logits, labels))
    assert confident == pytest.approx(1 - accuracy, abs=1e-3)


def test_what_does_not_fit_is_refused():
    logits, labels = answers(5)
    with pytest.raises(UserError, match="k <= 7, the number of classes"):
        top_accuracy(logits, labels, 8)
    with pytest.raises(UserError, match=r"labels \(N,\), not \(5, 7\) and \(4,\)"):
        top_accuracy(logits, labels[:4])
    with pytest.raises(UserError, match=r"\(0, 7\)"):
        negative_log_likelihood(logits[:0], labels[:0])
    for wrong in (-1, 7):
        with pytest.raises(UserError, match="labels must be whole numbers from 0 to 6"):
            reliability(logits, torch.full((5,), wrong))
    with pytest.raises(UserError, match="not finite"):
        top_accuracy(logits * math.nan, labels)
    with pytest.raises(UserError, match="assigned classes must be whole numbers"):
        confusion_matrix(torch.full((5,), 7), labels, 7)
    with pytest.raises(UserError, match="at least 1 bin"):
        reliability(logits, labels, 0)
