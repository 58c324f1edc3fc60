"""Diversity of texts against loops over pairs of n-grams, and closed forms."""

import math
import random

import pytest

from acdit.metrics.text_diversity import distinct, distinct_within, self_repetition, words_of
from acdit.utils.errors import UserError

ROSE = [["a", "rose", "is", "a", "rose", "is", "a", "rose"]]


def some_texts(seed):
    chance = random.Random(seed)
    return [[chance.choice("abcd") for _ in range(chance.randrange(0, 12))] for _ in range(9)]


def brute_distinct(texts, n):
    seen, total = [], 0
    for text in texts:
        for start in range(len(text) - n + 1):
            total += 1
            if all(text[start : start + n] != other for other in seen):
                seen.append(text[start : start + n])
    return len(seen) / total


def brute_self_repetition(texts, n):
    scores = []
    for index, text in enumerate(texts):
        found, repeated = [], 0
        for start in range(len(text) - n + 1):
            gram = text[start : start + n]
            if gram in found:
                continue
            found.append(gram)
            for other, words in enumerate(texts):
                if other != index:
                    repeated += any(words[at : at + n] == gram for at in range(len(words)))
        scores.append(math.log(1 + repeated))
    return sum(scores) / len(scores)


def test_words():
    assert words_of(" To be,\tor\n\nNOT to be ") == ["to", "be,", "or", "not", "to", "be"]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_against_loops(n):
    for seed in range(5):
        texts = some_texts(seed)
        assert distinct(texts, n) == pytest.approx(brute_distinct(texts, n))
        long = [text for text in texts if len(text) >= n]
        expected = sum(brute_distinct([text], n) for text in long) / len(long)
        assert distinct_within(texts, n) == pytest.approx(expected)
        assert self_repetition(texts, n) == pytest.approx(brute_self_repetition(texts, n))


def test_closed_forms():
    assert [distinct(ROSE, n) for n in (1, 2, 3)] == [3 / 8, 3 / 7, 3 / 6]
    same, others = [list("abcdefg")] * 5, [[f"{row}{column}" for column in range(7)] for row in range(5)]
    assert distinct(same, 2) == 1 / 5 and distinct_within(same, 2) == 1
    assert self_repetition(same) == pytest.approx(math.log(1 + 4 * 4))  # 4 n-grams in each of 4 other texts
    assert distinct(others, 2) == 1 and self_repetition(others) == 0
    # n-grams end with their text, and those of a text that is repeated in itself alone do not count
    assert distinct([["a", "b"], ["b", "a"]], 2) == 1
    assert self_repetition([["x"] * 9, ["y"] * 9]) == 0


def test_too_few_words():
    for metric in (distinct, distinct_within, self_repetition):
        with pytest.raises(UserError, match="no text has 4 words"):
            metric([["a"], ["b", "c", "d"]], 4)
    with pytest.raises(UserError, match="it needs two, not 1"):
        self_repetition(ROSE)
