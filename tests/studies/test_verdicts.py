"""Verdicts on synthetic scores whose truth is known."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.stats

from acdit.studies.learned import LABEL_ACCURACY, VIDEO_ERROR, if_learned
from acdit.studies.verdicts import (
    CONFIRMED,
    NOT_LEARNED,
    NOT_MEASURED,
    REFUTED,
    UNDECIDED,
    Comparison,
    Direction,
    Expectation,
    Verdict,
    compare,
    conclude,
    count_words,
    differences_of,
    scores_of,
    trend,
)
from acdit.utils.errors import UserError

HIGHER, LOWER = Expectation("higher"), Expectation("lower")
NOISE = (0.5, -1.0, 1.5, 0.0, -1.0)  # mean 0
BASE = dict(enumerate((10.0, 14.0, 9.0, 12.0, 11.0)))


def shifted(by: float, noise: float = 0.1, seeds: int = 5) -> dict[int, float]:
    """Scores of `BASE` plus a difference, with noise of its own."""
    return {seed: BASE[seed] + by + noise * NOISE[seed] for seed in range(seeds)}


def equal(margin: float, worse: Direction = "higher", **more) -> Expectation:
    return Expectation("equal", margin, worse, **more)


@pytest.mark.parametrize(
    ("by", "expected", "verdict"),
    [
        (+1.0, HIGHER, CONFIRMED),
        (-1.0, HIGHER, REFUTED),
        (+1.0, LOWER, REFUTED),
        (-1.0, LOWER, CONFIRMED),
        (0.0, HIGHER, UNDECIDED),
        (0.0, LOWER, UNDECIDED),
        # half the width of the interval is 2.776 x 0.1 x 1.0607 / sqrt(5) = 0.1317
        (0.131, HIGHER, UNDECIDED),
        (0.133, HIGHER, CONFIRMED),
        (-0.131, LOWER, UNDECIDED),
        (-0.133, LOWER, CONFIRMED),
        (1.131, Expectation("higher", 1.0), UNDECIDED),
        (1.133, Expectation("higher", 1.0), CONFIRMED),
        (0.8, Expectation("higher", 1.0), REFUTED),
        (-1.133, Expectation("lower", 1.0), CONFIRMED),
        (-0.8, Expectation("lower", 1.0), REFUTED),
        (0.0, equal(0.2), CONFIRMED),
        (0.0, equal(0.131), UNDECIDED),
        (0.0, equal(0.133), CONFIRMED),
        (0.06, equal(0.2), CONFIRMED),
        (0.08, equal(0.2), UNDECIDED),
        (-0.08, equal(0.2), UNDECIDED),
        (0.34, equal(0.2), REFUTED),
        (0.32, equal(0.2), UNDECIDED),
        (-1.0, equal(0.2), UNDECIDED),  # better by more than the margin: neither equal nor worse
        (-0.34, equal(0.2, "lower"), REFUTED),
        (1.0, equal(0.2, "lower"), UNDECIDED),
    ],
)
def test_a_verdict_is_that_of_the_whole_interval(by, expected, verdict):
    assert compare("x", shifted(by), BASE, expected).verdict == verdict


@pytest.mark.parametrize("seeds", [2, 5, 9])
def test_intervals_are_those_of_scipy(seeds):
    random = np.random.default_rng(seeds)
    treated, control = np.add(random.normal(size=(2, seeds)), [[3.5], [3]])
    paired = [dict(enumerate(map(float, scores))) for scores in (treated, control)]
    result = compare("x", paired[0], paired[1], HIGHER).difference
    expected = scipy.stats.ttest_rel(treated, control).confidence_interval(0.95)
    assert result is not None and result.count == seeds
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))
    logarithms = scipy.stats.ttest_rel(*np.log(np.abs([treated, control]))).confidence_interval(0.95)
    absolute = [{seed: abs(score) for seed, score in scores.items()} for scores in paired]
    ratios = compare("x", absolute[0], absolute[1], Expectation("higher", relative=True)).difference
    assert ratios is not None
    assert (ratios.low, ratios.high) == pytest.approx((logarithms.low, logarithms.high))


def test_slopes_are_those_of_scipy():
    random, levels = np.random.default_rng(0), (1.0, 2.0, 8.0, 64.0)
    scores = random.normal(size=(6, len(levels)))
    fits: list[Any] = [scipy.stats.linregress(np.log2(levels), row) for row in scores]
    slopes = [fit.slope for fit in fits]
    expected = scipy.stats.ttest_1samp(slopes, 0).confidence_interval(0.95)
    columns = zip(levels, scores.T, strict=True)
    result = trend("x", {level: dict(enumerate(column)) for level, column in columns}, HIGHER).difference
    assert result is not None and result.mean == pytest.approx(np.mean(slopes))
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))


def test_seeds_are_paired_whatever_their_order():
    """The seeds differ by 5, the treatment adds 0.01: only pairs can show it."""
    treated = {seed: BASE[seed] + 0.01 + 1e-4 * NOISE[seed] for seed in reversed(range(5))}
    assert compare("x", treated, BASE, HIGHER).verdict == CONFIRMED
    wrongly_paired = dict(zip(BASE, reversed(treated.values()), strict=True))
    assert compare("x", dict(enumerate(reversed(wrongly_paired.values()))), BASE, HIGHER).verdict == UNDECIDED


def test_ties_and_zero_spread():
    assert compare("x", BASE, BASE, HIGHER).verdict == UNDECIDED
    assert compare("x", BASE, BASE, LOWER).verdict == UNDECIDED
    assert compare("x", BASE, BASE, equal(1e-3)).verdict == CONFIRMED
    assert compare("x", shifted(1, noise=0), BASE, HIGHER).verdict == CONFIRMED
    assert compare("x", shifted(1, noise=0), BASE, equal(0.5)).verdict == REFUTED
    for bound in (equal(1.0), Expectation("higher", 1.0)):  # exactly at the bound
        assert compare("x", shifted(1, noise=0), BASE, bound).verdict == UNDECIDED
    third = dict.fromkeys(range(5), 0.3)
    rounded = dict.fromkeys(range(5), 0.1 + 0.2)
    for expected in (HIGHER, LOWER, Expectation("higher", relative=True)):
        assert compare("x", rounded, third, expected).verdict == UNDECIDED
    ones = {1.0: third, 3.0: rounded, 7.0: third, 9.0: rounded}
    assert trend("x", ones, HIGHER).verdict == UNDECIDED == trend("x", ones, LOWER).verdict


def test_wide_errors_are_undecided():
    for expected in (HIGHER, LOWER, equal(1.0)):
        assert compare("x", shifted(1, noise=10), BASE, expected).verdict == UNDECIDED


@pytest.mark.parametrize("seeds", [1, 2, 4])
def test_too_few_seeds_are_undecided_with_the_reason(seeds):
    result = compare("x", shifted(100, seeds=seeds), BASE, HIGHER)
    assert result.verdict == UNDECIDED and result.reason == f"{seeds} of at least 5 seeds"
    assert result.difference is not None and result.difference.mean > 99  # shown nevertheless
    assert result.row()["seeds"] == str(seeds)
    levels = {1.0: BASE, 2.0: shifted(1, seeds=seeds), 4.0: shifted(2, seeds=5)}
    assert trend("x", levels, HIGHER).reason == f"{seeds} of at least 5 seeds"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_undecided(value):
    for treated, control in (
        (shifted(1) | {3: value}, BASE),
        (shifted(1), BASE | {3: value}),
        (shifted(1) | {3: value}, BASE | {3: value}),
    ):
        result = compare("x", treated, control, HIGHER)
        assert result.verdict == UNDECIDED and "seed 3 is not finite" in result.reason
    levels = {1.0: BASE, 2.0: shifted(1) | {2: value}, 4.0: shifted(2)}
    assert "seed 2 is not finite" in trend("x", levels, HIGHER).reason


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_ratios_need_positive_scores(value):
    relative = Expectation("higher", relative=True)
    assert "positive" in compare("x", shifted(1) | {1: value}, BASE, relative).reason
    assert compare("x", shifted(1) | {1: value}, BASE, HIGHER).reason == ""


def test_margins_of_ratios_are_fractions():
    within = equal(0.05, relative=True)
    for factor, verdict in (
        (1.049, CONFIRMED),
        (1.051, REFUTED),
        (1 / 1.049, CONFIRMED),
        (1 / 1.051, UNDECIDED),
    ):
        scaled = {seed: factor * score for seed, score in BASE.items()}
        assert compare("x", scaled, BASE, within).verdict == verdict
        assert compare("x", scaled, BASE, within).row()["difference"] == f"{100 * (factor - 1):+.3g}%"


def test_missing_scores_are_not_measured():
    assert compare("x", {}, BASE, HIGHER).verdict == NOT_MEASURED
    assert compare("x", BASE, {}, HIGHER).verdict == NOT_MEASURED
    others = {seed + 5: score for seed, score in BASE.items()}
    assert compare("x", others, BASE, HIGHER).reason == "no seed has all scores"
    result = trend("x", {1: BASE, 2: {}, 4: {}}, HIGHER)
    assert result.verdict == NOT_MEASURED and "2 and 4" in result.reason
    assert trend("x", {1: BASE, 2: others}, HIGHER).verdict == NOT_MEASURED
    assert result.row()["difference"] == result.row()["95% interval"] == ""
    longer = compare("x", shifted(1) | {7: math.nan}, BASE, HIGHER)  # a seed without its partner
    assert longer.verdict == CONFIRMED and longer.row()["seeds"] == "5"


def levels_of(*means: float, noise: float = 0.1) -> dict[float, dict[int, float]]:
    """Scores at the levels 1, 2, 4 .., with the noise in another order at each."""
    return {
        2.0**index: {seed: BASE[seed] + mean + noise * NOISE[(seed + index) % 5] for seed in BASE}
        for index, mean in enumerate(means)
    }


def test_trends():
    assert trend("x", levels_of(0, 1, 2, 3), HIGHER).verdict == CONFIRMED
    assert trend("x", levels_of(0, 1, 2, 3), LOWER).verdict == REFUTED
    assert trend("x", levels_of(3, 2, 1), LOWER).verdict == CONFIRMED
    assert trend("x", levels_of(0, 0, 0), HIGHER).verdict == UNDECIDED
    assert trend("x", levels_of(0, 1, 2, noise=20), HIGHER).verdict == UNDECIDED
    assert trend("x", levels_of(0, 2, 2, 2), HIGHER).verdict == CONFIRMED  # a plateau is no turn
    result = trend("x", levels_of(0, 3, 2, 3), HIGHER)
    assert result.verdict == UNDECIDED and result.reason == "confirmed by the slope, but not from 2 to 4"
    assert trend("x", levels_of(0, 3, 2, 3), LOWER).verdict == UNDECIDED
    # levels are given in any order, and a level counts by its logarithm
    doubled = dict(reversed(levels_of(0, 1, 2, noise=0).items()))
    slope = trend("x", doubled, HIGHER).difference
    assert slope is not None and slope.mean == pytest.approx(1)


def test_an_expectation_that_cannot_be_tested_is_a_mistake():
    wrongs: list[dict[str, Any]] = [
        {"effect": "equal"},
        {"effect": "equal", "margin": 0.1},
        {"effect": "higher", "margin": -1},
    ]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="margin"):
            Expectation(**wrong)
    for levels, expected in (
        ({1.0: BASE}, HIGHER),
        ({0.0: BASE, 1.0: BASE}, HIGHER),
        ({1.0: BASE, 2.0: BASE}, equal(1)),
        ({1.0: BASE, 2.0: BASE}, Expectation("higher", 1)),
    ):
        with pytest.raises(ValueError, match="trend"):
            trend("x", levels, expected)


def test_differences_are_themselves_scores():
    gaps = differences_of(shifted(2) | {9: 1.0}, BASE)
    assert gaps == pytest.approx({seed: 2 + 0.1 * NOISE[seed] for seed in BASE})


ROWS = [
    {"arm": arm, "blocks": blocks, "seed": seed, "score": 10 * blocks + seed}
    for arm in "ab"
    for blocks in (1, 2)
    for seed in range(2)
]


def test_scores_of_rows():
    assert scores_of(ROWS, "score", arm="a", blocks=2) == {0: 20.0, 1: 21.0}
    assert scores_of(ROWS, "score", arm="c") == {} == scores_of(ROWS, "score", size=1)
    assert scores_of([*ROWS, {"arm": "a", "blocks": 3, "seed": 0, "score": None}], "score", blocks=3) == {}
    assert scores_of(ROWS, "score", pairs="blocks", arm="a", seed=0) == {1: 10.0, 2: 20.0}
    with pytest.raises(UserError, match="two rows have the seed 0"):
        scores_of(ROWS, "score", arm="a")
    for wrong in ("much", True, [1.0], 10**400):
        with pytest.raises(UserError, match=r"must be a number|too large a number"):
            scores_of([{"seed": 0, "score": wrong}], "score")


def with_verdicts(*verdicts: Verdict) -> list[Comparison]:
    return [Comparison("x", HIGHER, verdict) for verdict in verdicts]


@pytest.mark.parametrize(
    ("verdicts", "conclusion"),
    [
        ((CONFIRMED, CONFIRMED), CONFIRMED),
        ((CONFIRMED, UNDECIDED), UNDECIDED),
        ((CONFIRMED, REFUTED), REFUTED),
        ((NOT_MEASURED, REFUTED), REFUTED),
        ((NOT_LEARNED, REFUTED), REFUTED),
        ((NOT_LEARNED, CONFIRMED), NOT_LEARNED),
        ((NOT_MEASURED, CONFIRMED), UNDECIDED),
        ((NOT_MEASURED, NOT_MEASURED), NOT_MEASURED),
        ((), NOT_MEASURED),
    ],
)
def test_a_claim_of_several_comparisons(verdicts, conclusion):
    for order in (verdicts, verdicts[::-1]):
        assert conclude(with_verdicts(*order)) == conclusion


def test_a_reference_that_has_not_learned_gives_no_verdicts():
    found = with_verdicts(CONFIRMED, REFUTED, UNDECIDED, NOT_MEASURED)
    accurate, lost = {0: 0.93, 1: 0.88}, {0: 0.91, 1: 0.88}
    assert if_learned(found, LABEL_ACCURACY, accurate) == found
    changed = if_learned(found, LABEL_ACCURACY, lost)
    assert [each.verdict for each in changed] == [*[NOT_LEARNED] * 3, NOT_MEASURED]
    assert changed[0].reason == "label accuracy of the reference run is 0.895"
    for unknown in ({}, {0: math.nan}):
        expected = UNDECIDED if unknown else NOT_MEASURED  # a run diverged, or there is none
        assert {each.verdict for each in if_learned(found[:3], LABEL_ACCURACY, unknown)} == {expected}
    assert VIDEO_ERROR.has_learned({0: 0.69}) and not VIDEO_ERROR.has_learned({0: 0.7})
    assert not LABEL_ACCURACY.has_learned({0: 0.9})


def test_the_number_of_comparisons_and_their_rows():
    rows = [compare("1 against 2", shifted(1), BASE, expected).row() for expected in (HIGHER, equal(0.5))]
    assert rows[0] == {
        "comparison": "1 against 2",
        "expected": "higher",
        "difference": "+1",
        "95% interval": "+0.868 to +1.13",
        "seeds": "5",
        "verdict": "confirmed",
    }
    assert rows[1]["expected"] == "equal within 0.5" and rows[1]["verdict"] == "refuted"
    assert str(equal(0.05, relative=True)) == "equal within 5%"
    assert str(Expectation("lower", 0.5)) == "lower by over 0.5"
    assert count_words(with_verdicts(CONFIRMED)).startswith("1 comparison, paired by seed")
    assert count_words(12 * with_verdicts(CONFIRMED)).startswith("12 comparisons, ")
    timed = compare("1 against 2", {0: 1.0}, {0: 2.0}, LOWER, pairs="round").row()
    assert timed["rounds"] == "1" and timed["verdict"] == "undecided: 1 of at least 5 rounds"
    reasons = [first for first, _ in pairwise(compare("x", {}, BASE, HIGHER).row().items())]
    assert reasons[0] == ("comparison", "x")
