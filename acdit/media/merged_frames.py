"""Rates of animated pictures, whose writers merge equal frames into one picture that is shown longer."""

from itertools import pairwise

import numpy as np

ROUNDING = 0.005  # seconds by which the end of a frame of an animated picture may be rounded
MOST_TRIED = 2**16  # numbers of frames that a file may have been merged from
MOST_COMPARED = 2**22  # these numbers times the pictures of the file
CHUNK = 2**14  # values that are compared at once


def even_frames(ends: list[float]) -> int:
    """Return the number of frames of equal duration that pictures with these ends were merged from.

    It is the smallest one with which every picture ends with a frame, up to rounding; if there is none among
    those that are tried, the shortest picture is one frame.
    """
    shortest, count = min(end - start for start, end in pairwise([0.0, *ends])), len(ends)
    most = max(count, round(ends[-1] / max(shortest, 2 * ROUNDING)))
    last = min(most, count + min(MOST_TRIED, max(1, MOST_COMPARED // count)))
    rows, times = max(1, CHUNK // count), np.array(ends)
    for first in range(count, last, rows):
        fitting = np.flatnonzero(_fit(times, np.arange(first, min(first + rows, last))))
        if len(fitting):
            return first + int(fitting[0])
    return most


def _fit(ends: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return for each number of frames whether every picture ends with one of so many equal frames.

    Args:
        ends: end of each picture in seconds (N,).
        frames: numbers of frames (K,).

    Returns:
        Booleans (K,).
    """
    numbers = np.rint(ends * frames[:, None] / ends[-1])  # of the frame with which each picture ends
    follows = (np.diff(numbers[:, :-1], axis=1, prepend=0) > 0).all(axis=1)
    numbers[:, -1] = frames
    numbers = np.maximum(numbers, 1)
    low = ((ends - ROUNDING) / numbers).max(axis=1)
    high = ((ends + ROUNDING) / numbers).min(axis=1)
    return follows & (low <= high + 1e-9)
