"""Classes by a generator: against its losses, over batches and ranks, by names, and refusals."""

from typing import Any, cast

import pytest
import scipy.stats
import torch

from acdit.data.dataset import InMemoryDataset, PixelDataset
from acdit.diffusion.class_losses import denoising_class_losses
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.diffusion.schedulers import default_sampler
from acdit.evaluation.generative_classifier import classification_report
from acdit.evaluation.labelled_data import labelled_items, matched_classes, open_labelled
from acdit.evaluation.model_evaluation import ModelSettings, evaluate_model
from acdit.generation.batches import Sampling
from acdit.metrics.classification import top_accuracy
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline
from acdit.pipelines.text import ACDiTTextPipeline
from acdit.utils.errors import UserError
from acdit.utils.ranks import launched
from tests.pipelines.test_text import network as text_network
from tests.processes import on_ranks
from tests.tiny import tiny_model

NAMES = ("ash", "beech", "cedar", "dogwood", "elm", "fir")


def pipeline(names=NAMES, **config):
    network = tiny_model(num_classes=len(names), dtype=torch.float64, **config)
    labels = dict(enumerate(names))
    return ACDiTImagePipeline(
        network, default_sampler("epsilon"), grid=[6, 6], block=[3, 3], patch=[1, 1], id2label=labels
    )


def pictures(count=7, names=NAMES, side=6):
    source = torch.Generator().manual_seed(5)
    images = torch.rand(count, 3, side, side, generator=source) * 2 - 1
    return InMemoryDataset(images, torch.arange(count) % len(names), tuple(names))


def report_of(data, batch=64, count=None, draws=3, ranks=None, pipe=None):
    settings = ModelSettings(Sampling(9, batch), count, draws, **({} if ranks is None else {"ranks": ranks}))
    return evaluate_model(pipe or pipeline(), data, ["class_accuracy"], settings)


def test_the_report_is_that_of_the_losses():
    data, pipe = pictures(), pipeline()
    report = report_of(data)
    losses = denoising_class_losses(
        pipe.transformer,
        pipe.layout.to_blocks(data.data.double()),
        pipe.layout,
        prediction="epsilon",
        seed=9,
        indices=range(7),
        draws=3,
    )
    margins, errors = losses.margins()
    for k, name in ((1, "class_accuracy"), (5, "top_5_class_accuracy")):
        assert report.score(name).value == top_accuracy(-losses.means, data.labels, k).value
    assert report.score("class_margin").value == pytest.approx(float(margins.mean()), rel=1e-9)
    error = float(errors.square().mean().sqrt())
    assert report.score("class_margin_error").value == pytest.approx(error, rel=1e-9)
    interval = report.score("class_margin").interval
    expected = scipy.stats.t.interval(0.95, 6, float(margins.mean()), scipy.stats.sem(margins.numpy()))
    assert interval and (interval.low, interval.high) == pytest.approx(expected, rel=1e-9)
    assert report.settings == {"classes": [*NAMES], "losses": "estimated", "draws": 3, "seed": 9}
    classes, confusion = cast(Any, report.tables)
    assert [row[:2] for row in classes.rows] == [("ash", 2), *((name, 1) for name in NAMES[1:])]
    answers = losses.means.argmin(1).tolist()
    assert sum(row[2] for row in confusion.rows) == 7
    assert {row[:2] for row in confusion.rows} == {
        (NAMES[row % 6], NAMES[answer]) for row, answer in enumerate(answers)
    }
    assert "ash" in report.table() and "assigned" not in report.table()


def test_batches_and_the_number_of_samples_do_not_change_the_answers():
    whole, parts = report_of(pictures()), report_of(pictures(), batch=2)
    assert parts.tables == whole.tables
    assert parts.score("class_margin").value == pytest.approx(whole.score("class_margin").value, rel=1e-9)
    some = report_of(pictures(), count=3)
    assert some.samples["count"] == 3
    assert [row[1] for row in some.tables[0].rows] == [1, 0, 1, 0, 1, 0]  # rows 0, 2 and 4
    assert some.tables[0].rows[1][2] is None
    assert set(some.tables[1].rows) <= {(a, b, 1) for a, b, _ in whole.tables[1].rows}


def report_on_ranks():
    ranks = launched()
    with ranks.joined():
        report = report_of(pictures(), batch=2, ranks=ranks)
        return report.tables, report.score("class_margin").value


@pytest.mark.long
def test_ranks_find_the_answers_of_one():
    whole = report_of(pictures())
    for tables, margin in on_ranks(report_on_ranks, 3):
        assert tables == whole.tables
        assert margin == pytest.approx(whole.score("class_margin").value, rel=1e-9)


def test_classes_are_matched_by_name():
    turned = InMemoryDataset(pictures().data, 5 - pictures().labels, tuple(reversed(NAMES)))
    assert report_of(turned).tables == report_of(pictures()).tables
    assert matched_classes(["a", "b"], ["b", "a"], "x").tolist() == [1, 0]
    assert matched_classes([None, None], ["b", "a"], "x").tolist() == [0, 1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((*NAMES[:5], "larch"), "compared with the model, class larch is new, class fir is removed"),
        (NAMES[:5], "class fir is removed"),
        ((), "has no classes"),
        (("",), "has no classes"),
    ],
)
def test_other_classes_are_refused(names, message):
    data = InMemoryDataset(pictures().data, torch.zeros(7, dtype=torch.long), names)
    with pytest.raises(UserError, match=message):
        report_of(data)


def test_other_data_and_models_are_refused():
    with pytest.raises(UserError, match="must be 3x6x6, not 3x8x8"):
        report_of(pictures(side=8))
    with pytest.raises(UserError, match="has 6 classes, but the model has 2, whose names are not recorded"):
        matched_classes([None, None], NAMES, "x")
    with pytest.raises(UserError, match="several classes, not 0"):
        report_of(pictures(), pipe=pipeline(()))
    with pytest.raises(UserError, match="likelihood is for models of text, not image"):
        evaluate_model(pipeline(), pictures(), ["likelihood"])


class Labelled(PixelDataset):
    """Sequences of tokens with classes; the first ends early."""

    channels, size, label_names = 1, (32,), ()

    def __init__(self, mask):
        self.tokens = torch.randint(5, (6, 32), generator=torch.Generator().manual_seed(0))
        self.tokens[0, 20:] = mask
        self.labels = torch.tensor([0, 1, 1, 0, 1, 1])

    def decode(self, index):
        return self.tokens[index]


@pytest.mark.parametrize(("block", "exact"), [(1, True), (8, False)])
def test_texts_are_told_by_their_likelihood(block, exact):
    network = text_network(num_classes=2)
    mask = network.config["vocab_size"] - 1
    pipe = ACDiTTextPipeline(network, FirstHittingScheduler(mask_token=mask), grid=[32], block=[block])
    report = report_of(Labelled(mask), batch=4, pipe=pipe)
    assert report.settings["losses"] == ("exact" if exact else "estimated")
    assert [row[1] for row in report.tables[0].rows] == [2, 4]
    assert report.score("class_margin").value > 0
    assert ("draws" in report.settings) != exact
    data = Labelled(mask)
    data.labels = data.labels + 1
    with pytest.raises(UserError, match="must be classes of the model, 0 to 1"):
        report_of(data, pipe=pipe)


def test_data_are_the_held_out_part_and_resized():
    pipe = load_pipeline("mnist", kind=ACDiTImagePipeline)
    data = open_labelled(pipe, "mnist", None)
    assert (data.samples.name, len(data.samples), data.notes) == ("mnist, held out", 1000, ())
    assert data.spread(20).labels.tolist() == [label for label in range(10) for _ in range(2)]
    small = open_labelled(pipe, "mnist", "digits")
    assert small.notes == ("the images of digits are resized from 8x8 to 32x32",)
    rows, pixels = next(small.batches(5))
    assert rows == [0, 1, 2, 3, 4] and pixels.shape == (5, 1, 32, 32) and pixels.abs().max() <= 1
    with pytest.raises(UserError, match="holds clips, but the samples are images"):
        open_labelled(pipe, "mnist", "moving-digits")
    with pytest.raises(UserError, match="shakespeare holds texts"):
        open_labelled(pipe, "mnist", "shakespeare")
    assert len(open_labelled(pipe, "mnist", "mnist", "train").samples) == 4000
    assert labelled_items(pipe, data.samples.data).labels.bincount().tolist() == [100] * 10


@pytest.mark.long
def test_the_model_of_mnist_reads_digits():
    """Of 40 digits, at chance 4 are read; more than 28 have a probability below 1e-17."""
    pipe = load_pipeline("mnist", kind=ACDiTImagePipeline)
    data = open_labelled(pipe, "mnist", None)
    report = classification_report(pipe, data, ModelSettings(Sampling(0, 20), count=40, draws=4))
    assert report.score("class_accuracy").value > 0.7
