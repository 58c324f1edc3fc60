"""The plot of the verdicts: distances of comparisons agree with their verdicts, and each claim has a row."""

import math
import random

import pytest

from acdit.metrics.paired import MeanInterval
from acdit.studies.claims import CLAIMS
from acdit.studies.reproduction import Finding, read_findings
from acdit.studies.reproduction_plot import distance, plot_findings
from acdit.studies.verdicts import CONFIRMED, REFUTED, UNDECIDED, Comparison, Expectation
from tests.studies.test_claims import of_arm, rows_of
from tests.studies.test_reproduction import store

EXPECTATIONS = (
    Expectation("higher"),
    Expectation("lower"),
    Expectation("higher", margin=0.3),
    Expectation("lower", margin=0.3, relative=True),
    Expectation("equal", margin=0.5, worse="higher"),
    Expectation("equal", margin=0.5, worse="lower", relative=True),
)


def compared(expected: Expectation, low: float, high: float) -> Comparison:
    interval = MeanInterval((low + high) / 2, low, high, 5, 0.95)
    return Comparison("a against b", expected, expected.verdict(interval), "", interval)


@pytest.mark.parametrize("expected", EXPECTATIONS, ids=str)
def test_the_distance_tells_the_verdict(expected):
    source = random.Random(0)
    verdicts = set()
    for _ in range(2000):
        low = source.uniform(-2, 2)
        width = source.choice((0, 0.01, 0.3, 1.5)) * source.uniform(0.5, 1)
        comparison = compared(expected, low, low + width)
        value = distance(comparison)
        assert value is not None
        told = CONFIRMED if value > 1 else REFUTED if value < -1 else UNDECIDED
        assert told == comparison.verdict
        verdicts.add(told)
    assert verdicts == {CONFIRMED, REFUTED, UNDECIDED}


def test_distances_in_closed_form():
    assert distance(compared(Expectation("higher"), 1.0, 3.0)) == 2.0
    assert distance(compared(Expectation("lower"), 1.0, 3.0)) == -2.0
    assert distance(compared(Expectation("higher", margin=1.5), 1.0, 3.0)) == 0.5
    assert distance(compared(Expectation("equal", margin=3.0, worse="higher"), 0.5, 1.5)) == 4.0
    assert distance(compared(Expectation("higher"), 2.0, 2.0)) == math.inf
    assert distance(compared(Expectation("lower"), 2.0, 2.0)) == -math.inf
    assert distance(compared(Expectation("higher"), 0.0, 0.0)) == 0.0
    single = MeanInterval(1.0, None, None, 1, 0.95)
    assert distance(Comparison("one seed", Expectation("higher"), UNDECIDED, "", single)) is None


def test_the_picture_has_a_row_for_each_claim(tmp_path):
    from PIL import Image

    store(tmp_path, "ablation", rows_of("ablation", of_arm))
    heights = []
    findings = read_findings(CLAIMS, tmp_path)
    for count in (1, len(CLAIMS)):
        plot_findings(findings[:count], tmp_path / "plot.png")
        heights.append(Image.open(tmp_path / "plot.png").height)
    assert heights[1] - heights[0] == pytest.approx(0.32 * 120 * (len(CLAIMS) - 1), abs=2)
    assert not list(tmp_path.glob("*.tmp*")) and isinstance(findings[0], Finding)
