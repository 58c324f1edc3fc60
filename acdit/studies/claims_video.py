"""Comparisons of the claim about video, of rows of the study `video`. Does not import torch."""

from collections.abc import Sequence

from .claim import Evidence, Row
from .learned import VIDEO_ERROR
from .verdicts import Comparison, Expectation, Scores, compare, scores_of

RATIO, DISTANCE = "error_ratio", "frechet_distance"
COUNTS = (1, 2, 4, 8)  # numbers of blocks of a clip; one block cannot continue a clip
REFERENCE = 4
# Less than a sixth of the 30% by which a network that has learned beats the best trivial guess.
WITHIN = Expectation("equal", 0.05, "higher", relative=True)


def video_in_blocks(rows: Sequence[Row]) -> list[Comparison]:
    """Compare continued and drawn clips in more blocks with those in fewest."""
    errors = {count: scores_of(rows, RATIO, blocks=count) for count in COUNTS[1:]}
    distances = {count: scores_of(rows, DISTANCE, blocks=count) for count in COUNTS}
    words = {"error of continued clips": errors, "Fréchet distance of drawn clips": distances}
    return [
        compare(f"{name}, blocks: {count} against {min(scores)}", scores[count], scores[min(scores)], WITHIN)
        for name, scores in words.items()
        for count in sorted(scores)[1:]
    ]


def reference_error(rows: Sequence[Row]) -> Scores:
    """Return the error of continued clips of the reference, over that of the best trivial guess."""
    return scores_of(rows, RATIO, blocks=REFERENCE)


VIDEO = Evidence(
    "video",
    "acdit study video --seeds 5",
    video_in_blocks,
    "video.png",
    "moving digits",
    reference_error,
    VIDEO_ERROR,
    {"budget": "full"},
)
