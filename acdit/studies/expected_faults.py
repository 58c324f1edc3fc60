"""Effects of faults on metrics as they should be; written down before they were measured."""

from typing import Literal

Effect = Literal["rises", "falls", "not seen"]

BLUR, NOISE, IMBALANCE, DROPPED, DUPLICATES = (
    *("blur", "noise", "class imbalance"),
    *("dropped classes", "duplicates"),
)

_DISTANCE: dict[str, Effect] = {
    BLUR: "rises",
    NOISE: "rises",
    IMBALANCE: "rises",
    DROPPED: "rises",
    DUPLICATES: "rises",  # fewer different samples: covariances of fewer items, and more pairs of equal ones
}
_FIDELITY: dict[str, Effect] = {
    BLUR: "falls",
    NOISE: "falls",
    IMBALANCE: "not seen",  # every sample is still a real picture
    DROPPED: "not seen",
    DUPLICATES: "not seen",
}
_COPIES: dict[str, Effect] = dict.fromkeys((BLUR, NOISE, IMBALANCE, DROPPED, DUPLICATES), "not seen")

EXPECTED: dict[str, dict[str, Effect]] = {
    "frechet_distance": _DISTANCE,
    "kernel_distance": _DISTANCE,
    "sliced_wasserstein": _DISTANCE,
    "cmmd": _DISTANCE,
    "precision": _FIDELITY,
    "density": _FIDELITY,
    "recall": {
        BLUR: "falls",
        NOISE: "falls",
        IMBALANCE: "not seen",  # balls grow where samples are few
        DROPPED: "falls",
        DUPLICATES: "falls",  # the balls around copies are empty
    },
    "coverage": {
        BLUR: "falls",
        NOISE: "falls",
        IMBALANCE: "falls",
        DROPPED: "falls",
        DUPLICATES: "falls",
    },
    "inception_score": {
        BLUR: "falls",
        NOISE: "falls",
        IMBALANCE: "falls",
        DROPPED: "falls",
        DUPLICATES: "not seen",
    },
    "label_accuracy": _FIDELITY,
    "nearest_ratio": _COPIES,
    "copied_fraction": _COPIES,
}

IN_PIXELS: dict[tuple[str, str], Effect] = {
    ("precision", BLUR): "rises",  # blurred pictures lie nearer to the mean of all pictures
    ("density", BLUR): "rises",
}


def expected_effect(score: str, fault: str, features: str) -> Effect:
    """Return what a fault should do to a score on features."""
    if features == "pixels" and (score, fault) in IN_PIXELS:
        return IN_PIXELS[score, fault]
    return EXPECTED[score][fault]


REASONS: dict[tuple[str, str, str], str] = {}
"""Reasons of effects other than expected, found after the measurement, by features, score and fault."""
