"""Diversity of texts, given as sequences of words or of token ids. Pure functions.

All of these metrics depend on the number and the lengths of the texts: compare only values computed at the
same counts and lengths.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from ..utils.errors import UserError

REPEATED = 4  # words of the n-grams of self-repetition

Tokens = Sequence[Hashable]


def words_of(text: str) -> list[str]:
    """Return the words of a text: what stands between white space, in lower case."""
    return text.lower().split()


def distinct(texts: Sequence[Tokens], n: int) -> float:
    """Return distinct-n: the number of distinct n-grams of all texts over the number of their n-grams.

    The metric is that of Li et al. 2016 (arXiv 1510.03055), who divide by the number of words; as in most
    later work it is the number of n-grams, so that 1 means that no n-gram is repeated. It falls with the
    number of texts. An n-gram lies within one text.

    Args:
        texts: words or token ids of each text.
        n: number of words of an n-gram.

    Raises:
        UserError: if no text has n words.
    """
    grams = [gram for text in texts for gram in _grams(text, n)]
    if not grams:
        raise UserError(f"no text has {n} words")
    return len(set(grams)) / len(grams)


def distinct_within(texts: Sequence[Tokens], n: int) -> float:
    """Return the mean over texts of distinct-n of each text alone, over those that have n words.

    It is 1 minus rep-n of arXiv 2202.06417: it sees loops within a text, but not that all texts are the same.

    Args:
        texts: words or token ids of each text.
        n: number of words of an n-gram.

    Raises:
        UserError: if no text has n words.
    """
    values = [distinct([text], n) for text in texts if len(text) >= n]
    if not values:
        raise UserError(f"no text has {n} words")
    return sum(values) / len(values)


def self_repetition(texts: Sequence[Tokens], n: int = REPEATED) -> float:
    """Return the self-repetition of texts: the mean over texts of ln(1 + repetitions).

    The repetitions of a text are, summed over its distinct n-grams, the numbers of other texts with the
    n-gram (Salkar et al. 2022, arXiv 2210.08145, as standardised in arXiv 2403.00553, with n = 4). The score
    is 0 if no text shares an n-gram with another one, and at most ln(1 + (N - 1) G) for N texts of G n-grams
    each.

    Args:
        texts: words or token ids of each text.
        n: number of words of an n-gram.

    Raises:
        UserError: if there are fewer than two texts, or no text has n words.
    """
    if len(texts) < 2:
        raise UserError(f"self-repetition compares texts with each other: it needs two, not {len(texts)}")
    own = [set(_grams(text, n)) for text in texts]
    if not any(own):
        raise UserError(f"no text has {n} words")
    holders = Counter(gram for grams in own for gram in grams)  # number of texts with each n-gram
    return sum(math.log1p(sum(holders[gram] - 1 for gram in grams)) for grams in own) / len(texts)


def _grams(text: Tokens, n: int) -> list[tuple[Hashable, ...]]:
    """Return the n-grams of a text."""
    return [tuple(text[start : start + n]) for start in range(len(text) - n + 1)]
