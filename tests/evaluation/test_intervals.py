"""Intervals of scores: which are printed, and what they say."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from acdit.evaluation.evaluate import evaluate_samples
from acdit.evaluation.extraction import extract
from acdit.evaluation.features.frames import FrameFeatures
from acdit.evaluation.features.pixels import Pixels
from acdit.evaluation.intervals import INTERVALS, SAME_COUNT, interval_of
from acdit.evaluation.metric_table import METRICS, Sets
from acdit.evaluation.samples import TensorSamples
from acdit.metrics import resampling
from acdit.metrics.resampling import precision_errors
from acdit.studies.intervals import accepted
from tests.tiny import given

TABLE = Path(__file__).resolve().parents[2] / "docs" / "studies" / "intervals" / "coverage.md"


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(resampling, "RESAMPLES", 40)


def images(count: int, seed: int) -> TensorSamples:
    random = torch.Generator().manual_seed(seed)
    return TensorSamples(torch.randn(count, 1, 2, 2, generator=random).clamp(-1, 1) * (0.8 + 0.1 * seed))


def sets_of(count: int) -> Sets:
    return Sets(extract(images(count, 1), Pixels()), extract(images(100, 2), Pixels()))


def test_an_interval_lies_around_the_value():
    sets = sets_of(240)
    value = METRICS["precision_recall"].compute(sets, 0)[0]
    interval = interval_of("precision", value, sets, 7)
    assert interval is not None and interval.estimand == SAME_COUNT and interval.level == 0.95
    assert 0 <= interval.low < value < interval.high <= 1
    errors = precision_errors(given(sets.samples.values), given(given(sets.reference).values), 3, seed=7)
    high, low = torch.quantile(errors, torch.tensor([0.025, 0.975]).double()).tolist()
    assert (interval.low, interval.high) == pytest.approx((value - low, min(1, value - high)))


def test_too_few_samples_have_no_interval():
    assert interval_of("precision", 0.5, sets_of(199), 0) is None
    assert interval_of("frechet_distance", 0.5, sets_of(239), 0) is None  # 60 for each of 4 features
    assert interval_of("frechet_distance", 0.5, sets_of(240), 0) is not None
    assert interval_of("kernel_distance", 0.5, sets_of(240), 0) is None
    assert interval_of("inception_score", 0.5, sets_of(240), 0) is None
    sets = sets_of(240)
    stored = replace(sets, samples=replace(sets.samples, stored=sets.samples.statistics, values=None))
    assert interval_of("frechet_distance", 0.5, stored, 0) is None  # there is nothing to resample


def test_frames_of_a_clip_are_not_drawn_alone():
    random = torch.Generator().manual_seed(1)
    clips = TensorSamples(torch.randn(60, 1, 4, 2, 2, generator=random).clamp(-1, 1))
    frames = extract(clips, FrameFeatures(Pixels()))
    assert (len(frames), frames.parts) == (240, 4)
    reference = extract(images(100, 2), Pixels())
    assert interval_of("precision", 0.5, Sets(frames, reference), 0) is None
    assert interval_of("precision", 0.5, Sets(replace(frames, parts=1), reference), 0) is not None


def test_an_interval_without_width_is_not_printed():
    samples = extract(images(240, 1), Pixels())
    inside = Sets(replace(samples, values=given(samples.values) / 100), extract(images(100, 2), Pixels()))
    value = METRICS["precision_recall"].compute(inside, 0)[0]
    assert value == 1 and interval_of("precision", value, inside, 0) is None


def test_bounds_of_a_score_bound_its_interval():
    sets = sets_of(240)
    interval = INTERVALS["recall"].interval(0.999, sets, 0)
    assert interval.high == 1 and interval.low < 0.999
    assert INTERVALS["frechet_distance"].interval(1e-9, sets, 0).low == 0


def test_a_report_has_intervals_on_request():
    wanted = ["recall", "frechet_distance", "kernel_distance"]
    arguments = (images(240, 1), images(100, 2), ["pixels"], wanted)
    report = evaluate_samples(*arguments, intervals=True, seed=4)
    recall = report.score("recall")
    interval = given(recall.interval)
    assert interval == interval_of("recall", recall.value, sets_of(240), 4)
    assert report.score("frechet_distance").interval is not None
    assert report.score("kernel_distance").interval is None
    without = "no interval is known to be right for kernel_distance on pixels at these counts"
    assert report.notes[-1] == without
    assert f"{interval.low:.4g} to {interval.high:.4g}" in report.table()
    without = evaluate_samples(*arguments, seed=4)
    assert {score.interval for score in without.scores} == {None} and len(without.notes) == 1


def test_the_committed_table_admits_the_printed_intervals():
    lines = [
        line.strip("| \n").split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")
    ]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert {row["score"] for row in rows} == set(INTERVALS)
    for row in rows:
        features = int(row["features"].split()[-2])
        printed = INTERVALS[row["score"]].suits(int(row["samples"]), features)
        assert row["printed"] == ("yes" if printed else "no")
        assert row["accepted"] == ("yes" if accepted(float(row["coverage"])) else "no")
        assert accepted(float(row["coverage"])) or not printed
    assert {row["score"] for row in rows if row["printed"] == "yes"} == {
        score for score, method in INTERVALS.items() if method.least is not None
    }
