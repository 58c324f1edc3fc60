"""Comparisons of the claims about images, as functions of the rows of the studies on digits.

Quality is the Fréchet distance of generated digits, where lower is better. Does not import torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from .claim import Compare, Evidence, Row, between, by_level
from .finite_scores import finite
from .verdicts import (
    HIGHER,
    LOWER,
    REFUTED,
    UNDECIDED,
    Comparison,
    Expectation,
    Scores,
    compare,
    differences_of,
    scores_of,
    trend,
)

DISTANCE, ACCURACY = "frechet_distance", "label_accuracy"
# Five seeds can just confirm 10% if ratios of paired distances vary by 7.7%: 2.776 x 7.7% / sqrt(5) = ln 1.1.
WITHIN = Expectation("equal", 0.1, "higher", relative=True)
COMPLETE = "RoPE-ND, clean past"  # reference of the ablation
SHORT, LONG = 16, 64  # tokens of an image
COUNTS = (1, 4, 16)  # numbers of blocks at both lengths
LONG_COUNTS = (*COUNTS, 64)  # those of the longer one
SIZES = ("small", "base", "large")
REFERENCE_COUNT = 4
WINDOWS = (1, 2, 4, 8, 15)  # numbers of previous blocks that a block of one token sees; the last is all


def _distance(rows: Sequence[Row], **where: Any) -> Scores:
    return scores_of(rows, DISTANCE, **where)


def more_blocks(rows: Sequence[Row]) -> list[Comparison]:
    """Return the trends of the distance over the number of blocks, at each length of the sequence."""
    return [
        trend(
            f"more blocks, {tokens} tokens",
            by_level(rows, "blocks", counts, DISTANCE, tokens=tokens, trained=1.0),
            HIGHER,
        )
        for tokens, counts in ((SHORT, COUNTS), (LONG, LONG_COUNTS))
    ]


def longer_sequences(rows: Sequence[Row]) -> list[Comparison]:
    """Compare the longer sequence with the shorter one, at each number of blocks above 1."""
    return [
        compare(
            f"{LONG} tokens against {SHORT}, {count} blocks",
            _distance(rows, tokens=LONG, blocks=count, trained=1.0),
            _distance(rows, tokens=SHORT, blocks=count, trained=1.0),
            LOWER,
        )
        for count in COUNTS[1:]
    ]


def between_ends(rows: Sequence[Row]) -> list[Comparison]:
    """Compare the number of blocks between one and a block for each token with both ends, see `between`."""
    scores = {count: _distance(rows, tokens=SHORT, blocks=count, trained=1.0) for count in COUNTS}
    few, middle, many = COUNTS
    ends = {f"{few} (diffusion)": scores[few], f"{many} (autoregression)": scores[many]}
    return between(f"{middle} blocks", scores[middle], ends)


def against_baselines(rows: Sequence[Row]) -> list[Comparison]:
    """Compare ACDiT with each autoregressive baseline."""
    own = _distance(rows, arm="ACDiT")
    baselines = ("token-wise autoregression", "noised past", "per-token head")
    return [compare(f"ACDiT against {name}", own, _distance(rows, arm=name), LOWER) for name in baselines]


def _by_size(rows: Sequence[Row], count: int) -> dict[float, Scores]:
    """Return distances by the number of parameters; a size that is not measured has no distances."""
    by_size = {}
    for place, size in enumerate(SIZES, start=1):
        parameters = finite(
            number
            for each in COUNTS
            for number in scores_of(rows, "parameters", size=size, blocks=each).values()
        )
        by_size[fmean(parameters) if parameters else float(place)] = _distance(rows, size=size, blocks=count)
    return by_size


def larger_networks(rows: Sequence[Row]) -> list[Comparison]:
    """Return the trends of the distance over the number of parameters, at each number of blocks."""
    return [trend(f"larger networks, blocks: {count}", _by_size(rows, count), LOWER) for count in COUNTS]


def gap_over_size(rows: Sequence[Row]) -> list[Comparison]:
    """Test the gap between many blocks and one: there is one at the smallest size, and it shrinks."""
    one = _by_size(rows, 1)
    comparisons = []
    for count in COUNTS[1:]:
        many = _by_size(rows, count)
        least = next(iter(one))  # of the smallest size, also if runs of another one have all diverged
        gap = compare(f"{count} blocks against 1, smallest network", many[least], one[least], HIGHER)
        shrinks = trend(
            f"larger networks: gap between {count} blocks and 1",
            {size: differences_of(many[size], one[size]) for size in one},
            LOWER,
        )
        pair = [gap, shrinks]
        if gap.verdict == REFUTED:  # a gap that is not there can neither shrink nor grow
            pair = [replace(each, verdict=UNDECIDED, reason="there is no gap to shrink") for each in pair]
        comparisons += pair
    return comparisons


def ablated(*arms: str) -> Compare:
    """Return the function that compares arms of the ablation with the reference."""

    def compare_arms(rows: Sequence[Row]) -> list[Comparison]:
        reference = _distance(rows, arm=COMPLETE)
        return [
            compare(f"{arm} against {COMPLETE}", _distance(rows, arm=arm), reference, HIGHER) for arm in arms
        ]

    return compare_arms


def decayed(rows: Sequence[Row]) -> list[Comparison]:
    """Compare averaged weights in the decay with those before it, and after it with a constant rate."""
    before, inside, after = (
        _distance(rows, schedule="wsd", weights="averaged", trained=trained) for trained in (0.8, 0.9, 1.0)
    )
    constant = _distance(rows, schedule="constant", weights="averaged", trained=1.0)
    return [
        compare("half-way through the decay against before it", inside, before, LOWER),
        compare("decay against as many steps at a constant rate", after, constant, LOWER),
    ]


def _in_context(rows: Sequence[Row], trained: float, sampled: float, window: int) -> Scores:
    return _distance(rows, trained_noise=trained, context_noise=sampled, window=window)


def context_noise(rows: Sequence[Row]) -> list[Comparison]:
    """Compare a network that is trained and sampled with noise on the past with the same without either."""
    noise, everything = 0.1, WINDOWS[-1]
    both = _in_context(rows, noise, noise, everything)
    return [
        compare(
            f"noise {noise:g} on the past in training and sampling, against none",
            both,
            _in_context(rows, 0.0, 0.0, everything),
            LOWER,
        ),
        compare(
            f"noise {noise:g} on the past in training and sampling, against training alone",
            both,
            _in_context(rows, noise, 0.0, everything),
            LOWER,
        ),
    ]


def longer_windows(rows: Sequence[Row]) -> list[Comparison]:
    """Return the trend of the distance over the number of previous blocks that a block sees."""
    windows = {float(window): _in_context(rows, 0.0, 0.0, window) for window in WINDOWS}
    return [trend("longer windows", windows, LOWER)]


def mixed_blocks(training: str, expected: Expectation, counts: Sequence[int] = COUNTS) -> Compare:
    """Return the function that compares one network for all numbers of blocks with one for each."""

    def compare_trainings(rows: Sequence[Row]) -> list[Comparison]:
        return [
            compare(
                f"{training} against alone, blocks: {count}",
                _distance(rows, training=training, blocks=count),
                _distance(rows, training="alone", blocks=count),
                expected,
            )
            for count in counts
        ]

    return compare_trainings


# Reference of each study, or folder: the arm whose label accuracy says whether the study has learned.
REFERENCES: Mapping[str, Mapping[str, Any]] = {
    "blocks": {"tokens": SHORT, "blocks": REFERENCE_COUNT, "trained": 1.0},
    "blocks-mnist": {"tokens": LONG, "blocks": REFERENCE_COUNT, "trained": 1.0},
    "scaling": {"size": "base", "blocks": REFERENCE_COUNT},
    "ablation": {"arm": COMPLETE},
    "baselines": {"arm": "ACDiT"},
    "decay": {"schedule": "wsd", "weights": "averaged", "trained": 1.0},
    "anyblock": {"training": "alone", "blocks": REFERENCE_COUNT},
    "context": {"trained_noise": 0.0, "context_noise": 0.0, "window": WINDOWS[-1]},
}


def digits(study: str, compare_rows: Compare) -> Evidence:
    """Return evidence of a study on 8x8 digits."""
    command = f"acdit study {study} --seeds 5"
    return _evidence(study, study, command, compare_rows, "full", "8x8 digits")


def mnist(study: str, compare_rows: Compare) -> Evidence:
    """Return evidence of a study on digits of MNIST."""
    command = f"acdit study {study} --data mnist --seeds 5"
    return _evidence(study, f"{study}-mnist", command, compare_rows, "full-mnist", "MNIST")


def _evidence(
    study: str, folder: str, command: str, compare_rows: Compare, budget: str, data: str
) -> Evidence:
    def reference(rows: Sequence[Row]) -> Scores:
        return scores_of(rows, ACCURACY, **REFERENCES.get(folder, REFERENCES[study]))

    setting = {"budget": budget}
    return Evidence(folder, command, compare_rows, f"{study}.png", data, reference, setting=setting)
