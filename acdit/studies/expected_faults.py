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


_CHANCE = (
    "The change is larger at greater strengths, but the few pictures that are left differ from set to set."
)
_FEW = "Only 50 different pictures are left at the greatest strength, and their mean is left to chance."
_RATIO = "Both distances change much, and reference and training pictures are not equally near by chance."

REASONS: dict[tuple[str, str, str], str] = {
    ("digit-classifier", "cmmd", DUPLICATES): _CHANCE,
    ("efficientnet-lite0", "cmmd", DUPLICATES): _CHANCE,
    ("efficientnet-lite0", "sliced_wasserstein", DROPPED): (
        "It rises far above undamaged sets, but which classes are dropped matters more than whether five "
        "or seven are."
    ),
    ("digit-classifier", "precision", BLUR): (
        "The classifier maps strongly blurred digits to few points, probably among the real ones; label "
        "accuracy and recall show the fault."
    ),
    ("digit-classifier", "density", BLUR): "As for precision: strongly blurred digits gather at few points.",
    ("digit-classifier", "density", DUPLICATES): _FEW,
    ("pixels", "density", DUPLICATES): _FEW,
    ("efficientnet-lite0", "density", DUPLICATES): _FEW,
    ("efficientnet-lite0", "precision", DUPLICATES): _FEW,
    (
        "pixels",
        "density",
        IMBALANCE,
    ): "The change is hardly beyond the limit: two sets of one strength by chance.",
    ("digit-classifier", "inception_score", DUPLICATES): (
        "Duplicates are drawn at random, so that the classes are no longer equally frequent."
    ),
    ("digit-classifier", "nearest_ratio", BLUR): _RATIO,
    ("digit-classifier", "nearest_ratio", NOISE): _RATIO,
    ("efficientnet-lite0", "nearest_ratio", NOISE): _RATIO,
    ("efficientnet-lite0", "nearest_ratio", DROPPED): (
        "The ratio probably differs from class to class, as tiles of one picture overlap."
    ),
    ("efficientnet-lite0", "nearest_ratio", DUPLICATES): (
        "The ratio is a mean over few different pictures, which varies more from set to set."
    ),
    ("pixels", "frechet_distance", BLUR): (
        "Weak blur takes away fine detail, in which two sets of 500 pictures differ by chance in 1,024 "
        "dimensions: the distance first falls below that of real digits."
    ),
    ("pixels", "recall", NOISE): (
        "Distances among noisy pictures are large, so that the balls around them hold every real picture."
    ),
    ("pixels", "coverage", BLUR): (
        "Blurred pictures lie nearer to the mean of all pictures, inside more balls, until they leave them."
    ),
    ("efficientnet-lite0", "inception_score", IMBALANCE): (
        "The logits are those of 1,000 objects of ImageNet, which small tiles of ten pictures hardly show."
    ),
    ("efficientnet-lite0", "inception_score", DROPPED): (
        "As for class imbalance: the classes of the network are not those of the pictures."
    ),
}
"""Reasons of effects other than expected, found after the measurement, by features, score and fault."""
