"""Comparisons of the claims about text and understanding, of rows of their studies. Does not import torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..diffusion.orders import LEFT, RANDOM
from .claim import Compare, Evidence, Row, between, by_level
from .learned import Learned
from .verdicts import HIGHER, LOWER, Comparison, Expectation, Scores, compare, scores_of, trend

BITS = "bits_per_byte"
NETWORK = {"num_layers": 4, "hidden_size": 128, "num_heads": 4}
COUNTED, INDEPENDENT = "counted", "independent"  # masks of the training, as in `diffusion.masks`
# Training of a network: on one block size, on all in the steps of one, or on all in those of all together.
ALONE, TOGETHER, TOTAL = "alone", "all", "all, steps of all"
SIZES = (1, 4, 16, 64, 256)  # tokens of a block
ORDERED_SIZES = (4, 16)  # those that are also scored from left to right
# A tenth of what blocks of 4 in place of 1 add, 0.57 bits per byte in trials before the study.
WITHIN = Expectation("equal", 0.05, "higher")
# Below 0.7 of the best trivial guess, as for video: frequencies of bytes give 4.8 bits per byte.
LEARNED = Learned("bits per byte of blocks of 1", "lower", 3.36)
LABELS = (10, 50, 400)  # labels per class
TUNED, SCRATCH, NOISED = "fine-tuned", "from scratch", "fine-tuned, noised input"


def _bits(rows: Sequence[Row], **where: Any) -> Scores:
    return scores_of(rows, BITS, order=RANDOM, **where)


def smaller_blocks(rows: Sequence[Row]) -> list[Comparison]:
    """Return the trends of bits per byte over the block size, with independent and with counted masks."""
    return [
        trend(
            f"larger blocks, {masks} masks",
            by_level(rows, "block", SIZES, BITS, masks=masks, trained=ALONE, order=RANDOM),
            HIGHER,
        )
        for masks in (INDEPENDENT, COUNTED)
    ]


def text_between_ends(rows: Sequence[Row]) -> list[Comparison]:
    """Compare each block size between one token and the whole sequence with both ends, see `between`."""
    scores = {size: _bits(rows, masks=COUNTED, trained=ALONE, block=size) for size in SIZES}
    first, *middle, last = SIZES
    ends = {str(end): scores[end] for end in (first, last)}
    return [each for size in middle for each in between(f"blocks of {size}", scores[size], ends)]


def _by_size(
    name: str, treated: Mapping[str, str], control: Mapping[str, str], expected: Expectation
) -> Compare:
    """Return the function that compares two trainings at each block size.

    Args:
        name: what is compared.
        treated: columns of the rows that the claim speaks of.
        control: columns of the rows that they are compared with.
        expected: what the claim expects.
    """

    def compare_sizes(rows: Sequence[Row]) -> list[Comparison]:
        return [
            compare(
                f"{name}, blocks of {size}",
                _bits(rows, block=size, **treated),
                _bits(rows, block=size, **control),
                expected,
            )
            for size in SIZES
        ]

    return compare_sizes


ONE_SIZE = {"masks": COUNTED, "trained": ALONE}
counted_masks = _by_size(
    "counted against independent masks", ONE_SIZE, {"masks": INDEPENDENT, "trained": ALONE}, LOWER
)
text_anyblock = _by_size(
    "one network for all sizes against one for each",
    {"masks": COUNTED, "trained": TOGETHER},
    ONE_SIZE,
    WITHIN,
)


text_anyblock_total = _by_size(
    "one network for all sizes in the steps of all, against one for each",
    {"masks": COUNTED, "trained": TOTAL},
    ONE_SIZE,
    LOWER,
)


def order_of_blocks(rows: Sequence[Row]) -> list[Comparison]:
    """Compare one network from left to right with random order, and its larger blocks with those of 1."""
    where = {"masks": COUNTED, "trained": TOGETHER}
    left = {size: scores_of(rows, BITS, order=LEFT, block=size, **where) for size in ORDERED_SIZES}
    against_random = [
        compare(
            f"left to right against random order, blocks of {size}",
            scores,
            _bits(rows, block=size, **where),
            LOWER,
        )
        for size, scores in left.items()
    ]
    single = _bits(rows, block=1, **where)
    return against_random + [
        compare(f"left to right, blocks of {size} against 1", scores, single, WITHIN)
        for size, scores in left.items()
    ]


def recognition(treated: str, control: str) -> Compare:
    """Return the function that compares accuracies of two arms, at each number of labels."""

    def compare_arms(rows: Sequence[Row]) -> list[Comparison]:
        return [
            compare(
                f"{treated} against {control}, {labels} labels per class",
                scores_of(rows, "accuracy", arm=treated, labels=labels),
                scores_of(rows, "accuracy", arm=control, labels=labels),
                HIGHER,
            )
            for labels in LABELS
        ]

    return compare_arms


def text(compare_rows: Compare) -> Evidence:
    """Return evidence of the study of text."""

    def reference(rows: Sequence[Row]) -> Scores:
        return _bits(rows, **ONE_SIZE, block=1)

    command = "acdit study text --batch 16 --training-steps 350 --seeds 5"
    setting = {"steps": 350, "batch": 16, "samples": 500, "network": NETWORK}
    return Evidence("text", command, compare_rows, "text.png", "Shakespeare", reference, LEARNED, setting)


def understanding(compare_rows: Compare) -> Evidence:
    """Return evidence of the study of understanding."""

    def reference(rows: Sequence[Row]) -> Scores:
        return scores_of(rows, "accuracy", arm=TUNED, labels=max(LABELS))

    command = "acdit study understanding --seeds 5"
    setting = {"budget": "full"}
    return Evidence("understanding", command, compare_rows, "labels.png", "MNIST", reference, setting=setting)
