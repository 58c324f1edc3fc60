"""Scores of all short strings of two letters, against the sampler's distribution by enumeration (float64)."""

import math
from collections import defaultdict
from functools import cache
from itertools import product

import pytest
import torch

from acdit.data.tokenizers import Tokenizer
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.model.layout import Layout
from acdit.pipelines.text import ACDiTTextPipeline
from tests.pipelines.small import seeded
from tests.tiny import tiny_model

LENGTH, MASK = 6, 3


class Letters(Tokenizer):
    """Two letters and the end of a text."""

    size, eos = 3, 2

    def _encode(self, text, special):
        return ["ab".index(letter) for letter in text]

    def _decode(self, ids):
        return "".join("ab"[token] for token in ids)

    def description(self):
        return {}


def pipeline():
    network = tiny_model(
        in_channels=None,
        axis_lengths=(LENGTH,),
        vocab_size=MASK + 1,
        num_classes=None,
        time_conditioning=False,
        dtype=torch.float64,
    )
    with torch.no_grad():
        network.final_layer.linear.weight *= 3  # predictions that depend much on what is seen
    made = ACDiTTextPipeline(
        network,
        FirstHittingScheduler(mask_token=MASK),
        Letters(),
        grid=[LENGTH],
        block=[LENGTH],
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


@cache
def predictions(model, past, size):
    """The distributions (B, 3) that the network predicts for a block, by what the block shows."""
    states = list(product(range(MASK + 1), repeat=size))
    blocks = len(past) // size
    clean = torch.tensor(past).view(1, blocks, size) if past else None
    with torch.no_grad():
        logits = model(
            torch.tensor(states)[None],
            None,
            layout=Layout((LENGTH,), (size,)),
            blocks=(blocks,) * len(states),
            clean=clean,
        ).sample
    return dict(zip(states, logits[0, ..., :-1].softmax(-1).tolist(), strict=True))


def filled(shown, position, token):
    return (*shown[:position], token, *shown[position + 1 :])


def law_of_block(model, past, shown):
    """Probabilities of all fillings of a block, one random position at a time."""
    predicted, reached = predictions(model, past, len(shown)), {shown: 1.0}
    for left in range(shown.count(MASK), 0, -1):
        following = defaultdict(float)
        for state, chance in reached.items():
            for position in (at for at, token in enumerate(state) if token == MASK):
                for token, probability in enumerate(predicted[state][position]):
                    following[filled(state, position, token)] += chance * probability / left
        reached = following
    return reached


def probability(model, size, prompt, ids):
    """Of samples that begin with these ids, after those of the prompt: a sum over what may follow."""
    total, every = 1.0, (*prompt, *ids)
    for first in range(len(prompt) // size * size, len(every), size):
        target = every[first : first + size]
        known = tuple(prompt[first : first + size])
        law = law_of_block(model, every[:first], (*known, *(MASK,) * (size - len(known))))
        total *= sum(chance for filling, chance in law.items() if filling[: len(target)] == target)
    return total


def bound(model, size, prompt, ids):
    """The mean over all orders and tails of the sum of log p of the ids, from the last state backwards."""
    total, every = 0.0, (*prompt, *ids)
    for first in range(len(prompt) // size * size, len(every), size):
        target, past = every[first : first + size], every[:first]

        @cache
        def rest(state, target=target, past=past):
            masked = [at for at, token in enumerate(state) if token == MASK]
            mean = 0.0
            for position in masked:
                chances = predictions(model, past, size)[state][position]
                if position < len(target):
                    token = target[position]
                    mean += math.log(chances[token]) + rest(filled(state, position, token))
                else:
                    tails = (rest(filled(state, position, token)) for token in range(MASK))
                    mean += sum(chance * tail for chance, tail in zip(chances, tails, strict=True))
            return mean / max(1, len(masked))

        known = tuple(prompt[first : first + size])
        total += rest((*known, *(MASK,) * (size - len(known))))
    return total


def strings(longest=LENGTH):
    return ["".join(letters) for length in range(1, longest + 1) for letters in product("ab", repeat=length)]


def test_the_enumerated_law_is_the_sampler_s(pipe):
    """Of 1,000 samples in blocks of 3 tokens, against the probabilities of their first four."""
    tokens = torch.full((1000, LENGTH), MASK)
    drawn = pipe(tokens=tokens, block=3, generator=seeded(*range(1000)), output_type="tokens").texts
    counts = defaultdict(int)
    for row in torch.stack(drawn)[:, :4].tolist():
        counts[tuple(row)] += 1
    laws = {ids: 1000 * probability(pipe.transformer, 3, (), ids) for ids in product(range(MASK), repeat=4)}
    often = [ids for ids, expected in laws.items() if expected >= 5]
    cells = [(counts[ids], laws[ids]) for ids in often]
    others = (1000 - sum(counts for counts, _ in cells), 1000 - sum(expected for _, expected in cells))
    cells.append(others)
    chi = sum((count - expected) ** 2 / expected for count, expected in cells)
    assert len(often) > 5 and abs(chi - len(often)) / math.sqrt(2 * len(often)) < 3.5


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_scores_bound_the_sampler_s_distribution(pipe, size, ends):
    texts = strings(LENGTH - ends)
    scores = pipe.score(texts, block=size, ends=ends)
    assert (scores.standard_errors == 0).all()
    for text, score in zip(texts, scores.log_likelihoods.tolist(), strict=True):
        ids = (*Letters().encode(text), *(2,) * ends)
        exact = math.log(probability(pipe.transformer, size, (), ids))
        assert score <= exact + 1e-9
        assert score == pytest.approx(bound(pipe.transformer, size, (), ids), rel=1e-9)
        if size == 1:
            assert score == pytest.approx(exact, rel=1e-9)


def test_estimates_are_of_the_same_bound(pipe):
    """In a block of 6 tokens, with texts that end in it."""
    texts = ["a", "ab", "bab", "abba", "babaa", "bbbaba"]
    scores = pipe.score(texts, draws=400)
    means = [bound(pipe.transformer, LENGTH, (), tuple(Letters().encode(text))) for text in texts]
    deviations = (scores.log_likelihoods - torch.tensor(means)) / scores.standard_errors
    assert (scores.standard_errors > 0).all() and deviations.abs().max() < 3.5
    for text, mean in zip(texts, means, strict=True):
        ids = tuple(Letters().encode(text))
        assert mean <= math.log(probability(pipe.transformer, LENGTH, (), ids)) + 1e-9


@pytest.mark.parametrize("size", [2, 3])
def test_drawn_tails_are_of_the_same_bound(pipe, size, monkeypatch):
    """As with a vocabulary that is too large to sum over."""
    monkeypatch.setattr("acdit.diffusion.text_likelihood.MAX_STATES", 0)
    texts = strings(5)
    scores = pipe.score(texts, block=size, draws=300)
    whole = torch.tensor([len(text) % size == 0 for text in texts])
    assert torch.equal(scores.standard_errors == 0, whole)
    means = [bound(pipe.transformer, size, (), tuple(Letters().encode(text))) for text in texts]
    means = torch.tensor(means, dtype=torch.float64)
    errors = (scores.log_likelihoods - means).abs()
    assert (errors < 4 * scores.standard_errors + 0.01).all()  # some tails are rarer than one draw in 300
    assert errors[~whole].max() > 0.01 and scores.standard_errors.max() < 0.3
    assert torch.allclose(scores.log_likelihoods[whole], means[whole], rtol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_continuations_are_scored_after_their_prompts(pipe, size):
    pairs = [(text[:cut], text[cut:]) for text in strings(5) for cut in range(len(text))]
    prompts, texts = (list(part) for part in zip(*pairs, strict=True))
    scores = pipe.score(prompts, texts, block=size, ends=True)
    assert scores.tokens.tolist() == [len(text) + 1 for text in texts]
    for prompt, text, score in zip(prompts, texts, scores.log_likelihoods.tolist(), strict=True):
        given, ids = (tuple(Letters().encode(part)) for part in (prompt, text))
        assert score == pytest.approx(bound(pipe.transformer, size, given, (*ids, 2)), rel=1e-9)
        exact = math.log(probability(pipe.transformer, size, given, (*ids, 2)))
        assert score <= exact + 1e-9
        if size == 1:
            assert score == pytest.approx(exact, rel=1e-9)
    assert torch.equal(
        pipe.score("ab", ["a", "b"], block=size).log_likelihoods,
        pipe.score(["ab", "ab"], ["a", "b"], block=size).log_likelihoods,
    )
