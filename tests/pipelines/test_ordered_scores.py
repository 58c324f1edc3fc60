"""Texts in an order of revealing tokens: exact scores against enumeration without a cache, and samples."""

import math
from collections import Counter
from functools import cache, partial
from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy import stats

from acdit.diffusion import likelihood
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.diffusion.objective import SampleKey
from acdit.diffusion.ordered_likelihood import text_bounds
from acdit.diffusion.ordered_schedulers import FixedOrderScheduler, LowestEntropyScheduler
from acdit.model.layout import Layout
from acdit.utils.errors import UserError
from tests.pipelines.small import seeded
from tests.pipelines.test_sampler_bounds import LENGTH, MASK, Letters, filled, pipeline, predictions, strings
from tests.tiny import tiny_model

ORDERS = ["left", "right", "lowest-entropy", "permuted"]
PERMUTED = {1: [0], 2: [1, 0], 3: [2, 0, 1], 4: [2, 0, 3, 1]}


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def order_of(name, size):
    return PERMUTED[size] if name == "permuted" else name


def entropy(chances):
    return -sum(chance * math.log(chance) for chance in chances)


def following(order, state, chances):
    """The position that an order reveals next, given what a block shows and what the network predicts."""
    masked = [at for at, token in enumerate(state) if token == MASK]
    if order == "lowest-entropy":
        lowest = min(entropy(chances[at]) for at in masked)
        return next(at for at in masked if entropy(chances[at]) <= lowest + 1e-4)
    listed = order
    if isinstance(order, str):
        listed = range(len(state)) if order == "left" else range(len(state))[::-1]
    return next(at for at in listed if at in masked)


def law_of_block(model, past, shown, order):
    """Probabilities of all fillings of a block."""
    predicted, reached = predictions(model, past, len(shown)), {shown: 1.0}
    for _ in range(shown.count(MASK)):
        further = Counter()
        for state, chance in reached.items():
            position = following(order, state, predicted[state])
            for token, probability in enumerate(predicted[state][position]):
                further[filled(state, position, token)] += chance * probability
        reached = further
    return reached


def probability(model, size, prompt, ids, order):
    """Of samples that begin with these ids, after those of the prompt: a sum over what may follow."""
    total, every = 1.0, (*prompt, *ids)
    for first in range(len(prompt) // size * size, len(every), size):
        target, known = every[first : first + size], tuple(prompt[first : first + size])
        law = law_of_block(model, every[:first], (*known, *(MASK,) * (size - len(known))), order)
        total *= sum(chance for filling, chance in law.items() if filling[: len(target)] == target)
    return total


def bound(model, size, ids, order):
    """The mean of log p of the ids over the tails that the sampler draws."""
    total = 0.0
    for first in range(0, len(ids), size):
        target, predicted = ids[first : first + size], predictions(model, ids[:first], size)

        @cache
        def rest(state, target=target, predicted=predicted):
            if MASK not in state[: len(target)]:
                return 0.0
            position = following(order, state, predicted[state])
            chances = predicted[state][position]
            if position < len(target):
                token = target[position]
                return math.log(chances[token]) + rest(filled(state, position, token))
            return sum(chance * rest(filled(state, position, at)) for at, chance in enumerate(chances))

        total += rest((MASK,) * size)
    return total


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_scores_are_the_sampler_s_law(pipe, size, name):
    """Of all texts of up to five letters, which end inside blocks too, and of their parts after prompts."""
    order, texts = order_of(name, size), strings(5)
    scores = pipe.score(texts, block=size, order=order, ends=True)
    assert (scores.standard_errors == 0).all()
    for text, score in zip(texts, scores.log_likelihoods.tolist(), strict=True):
        ids = (*Letters().encode(text), 2)
        assert score == pytest.approx(math.log(probability(pipe.transformer, size, (), ids, order)), rel=1e-9)
    pairs = [(text[:cut], text[cut:]) for text in texts[::3] for cut in range(1, len(text))]
    prompts, rests = (list(part) for part in zip(*pairs, strict=True))
    scores = pipe.score(prompts, rests, block=size, order=order)
    for prompt, rest, score in zip(prompts, rests, scores.log_likelihoods.tolist(), strict=True):
        given, ids = (tuple(Letters().encode(part)) for part in (prompt, rest))
        exact = probability(pipe.transformer, size, given, ids, order)
        assert score == pytest.approx(math.log(exact), rel=1e-9)


def likelihoods(size, length, order, tokens=2):
    """-log p of all strings of some tokens under a random network, in blocks of a size."""
    model = tiny_model(
        in_channels=None,
        axis_lengths=(8,),
        vocab_size=tokens + 1,
        num_classes=None,
        time_conditioning=False,
        dtype=torch.float64,
    )
    with torch.no_grad():
        model.final_layer.linear.weight *= 3
    whole = -(-length // size) * size
    every = torch.tensor(list(product(range(tokens), repeat=length)))
    padded = torch.full((len(every), whole), tokens)  # the mask's id, as of padding in data sets
    padded[:, :length] = every
    rows = [0] * len(every)
    key = SampleKey(0, rows, rows)
    lengths = torch.full((len(every),), length)
    return text_bounds(model, padded, lengths, Layout((whole,), (size,)), key=key, draws=2, order=order)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize(("size", "length"), [(2, 8), (3, 6), (4, 8), (2, 7), (4, 6)])
def test_probabilities_sum_to_one(size, length, name):
    """Also of strings that end inside a block, which are the beginnings of samples."""
    found = likelihoods(size, length, order_of(name, size))
    assert found.summed.all() and (found.variances == 0).all()
    assert (-found.values).exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert found.values.std() > 1  # the network has its preferences


def test_the_mean_over_all_orders_is_the_bound():
    """Of the six orders of three positions, in two blocks, each of which adds its own part."""
    every = [likelihoods(3, 6, list(order)).values for order in permutations(range(3))]
    assert torch.allclose(torch.stack(every).mean(0), likelihoods(3, 6, "random").values, rtol=0, atol=1e-9)
    assert (torch.stack(every).std(0) > 0.01).any()


def test_orders_of_the_same_path_are_the_same(pipe):
    texts = strings(5)
    one = pipe.score(texts, block=1).log_likelihoods
    for name in ORDERS:  # a block of one token is autoregression
        found = pipe.score(texts, block=1, order=order_of(name, 1)).log_likelihoods
        assert torch.allclose(found, one, rtol=1e-12)
    left, listed, right, reverse = (
        pipe.score(texts, block=3, order=order).log_likelihoods
        for order in ("left", [0, 1, 2], "right", list(np.array([2, 1, 0])))
    )
    assert torch.equal(left, listed) and torch.equal(right, reverse)
    assert (left - right).abs().max() > 0.1


@pytest.mark.parametrize("name", ["right", "lowest-entropy", "permuted"])
def test_drawn_tails_bound_the_sampler_s_law(pipe, name, monkeypatch):
    """As with a vocabulary that is too large to sum over."""
    monkeypatch.setattr("acdit.diffusion.ordered_likelihood.MAX_STATES", 0)
    order, texts = order_of(name, 3), strings(5)[::5]
    scores = pipe.score(texts, block=3, order=order, draws=200)
    tails = torch.tensor([bool(len(text) % 3) for text in texts])
    assert (scores.standard_errors[~tails] == 0).all() and scores.standard_errors[tails].max() > 0.01
    ids = [tuple(Letters().encode(text)) for text in texts]
    means = torch.tensor([bound(pipe.transformer, 3, each, order) for each in ids], dtype=torch.float64)
    exact = torch.tensor(
        [math.log(probability(pipe.transformer, 3, (), each, order)) for each in ids], dtype=torch.float64
    )
    assert (means <= exact + 1e-9).all() and (exact - means)[tails].max() > 0.01
    errors = (scores.log_likelihoods - means).abs()
    assert (errors < 4 * scores.standard_errors + 0.01).all()
    assert torch.allclose(scores.log_likelihoods[~tails], means[~tails], rtol=1e-9)


def test_tails_that_are_revealed_last_are_not_summed(pipe, monkeypatch):
    """From left to right, every text has an exact score, whatever its vocabulary."""
    monkeypatch.setattr("acdit.diffusion.ordered_likelihood.MAX_STATES", 0)
    scores = pipe.score(strings(5), block=6, order="left")
    assert (scores.standard_errors == 0).all()


SAMPLERS = {
    "left": FixedOrderScheduler,
    "permuted": partial(FixedOrderScheduler, positions=PERMUTED[2]),
    "lowest-entropy": LowestEntropyScheduler,
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_follow_the_scores(pipe, name):
    """2,000 samples of two blocks of two tokens, which random order would give otherwise."""
    pipe = pipeline()
    pipe.scheduler = SAMPLERS[name](mask_token=MASK)
    given = torch.full((2000, 4), MASK)
    drawn = torch.stack(
        pipe(tokens=given, block=2, generator=seeded(*range(2000)), output_type="tokens").texts
    )
    every = list(product(range(MASK), repeat=4))
    counts = Counter(map(tuple, drawn.tolist()))
    listed = torch.tensor(every)
    zeros = [0] * len(every)

    def p_value(order):
        nats = text_bounds(
            pipe.transformer,
            listed,
            torch.full((len(every),), 4),
            Layout((4,), (2,)),
            key=SampleKey(0, zeros, zeros),
            draws=2,
            order=order,
        ).values
        expected = 2000 * (-nats).exp()
        often = expected >= 5
        found = torch.tensor([counts[each] for each in every]).double()
        found, expected = (
            torch.cat((part[often], part[~often].sum()[None])).numpy() for part in (found, expected)
        )
        return stats.chisquare(found, expected).pvalue

    assert p_value(order_of(name, 2)) > 0.001
    others = [each for each in ("left", "right", "lowest-entropy") if order_of(name, 2) not in (each, [1, 0])]
    assert min(p_value(order) for order in others or ["left"]) < 1e-6


@pytest.mark.parametrize("kind", [FixedOrderScheduler, LowestEntropyScheduler])
def test_greedy_samples_are_the_same_for_every_seed(kind):
    """Alone and in a batch with other masks, given tokens in between; in random order they are not."""
    pipe = pipeline()
    given = torch.full((5, LENGTH), MASK)
    given[1, 2], given[2, :3], given[3, 4:] = 0, 1, 2

    def texts(rows, first_seed, steps=None):
        return torch.stack(
            pipe(
                tokens=given[rows],
                block=3,
                temperature=0.0,
                num_inference_steps=steps,
                generator=seeded(*(first_seed + row for row in rows)),
                output_type="tokens",
            ).texts
        )

    random = [texts([0, 1, 2, 3, 4], seed) for seed in range(0, 50, 10)]
    pipe.scheduler = kind(mask_token=MASK)
    for steps in (None, 2):
        together = texts([0, 1, 2, 3, 4], 0, steps)
        assert torch.equal(texts([0, 1, 2, 3, 4], 100, steps), together)
        assert torch.equal(together[0], together[4])
        for row in range(5):
            assert torch.equal(texts([row], 7, steps)[0], together[row])
        assert torch.equal(together[given != MASK], given[given != MASK])
    assert any(not torch.equal(other, random[0]) for other in random)


def test_fixed_orders_share_a_call_and_others_take_one_per_step(pipe):
    """Texts of four blocks of two tokens, one of which ends in the middle of a block."""
    seen = []
    hook = pipe.transformer.register_forward_hook(
        lambda network, arguments, named, answer: seen.append(named["clean"] is not None), with_kwargs=True
    )
    texts = ["ababab", "bbbaba"]
    pipe.score(texts, block=2, order="left")
    pipe.score(texts, block=2, order="lowest-entropy")
    hook.remove()
    assert seen == [True, True, False]  # the finished blocks are read once


def test_scores_are_the_same_in_parts(pipe, monkeypatch):
    """A call makes no more logits than a bound, over texts, views and steps."""
    texts = ["aba", "ababab", "bb"]
    whole = [pipe.score(texts, block=3, order=order_of(name, 3)).log_likelihoods for name in ORDERS]
    asked = []
    hook = pipe.transformer.register_forward_hook(lambda *answer: asked.append(answer[2].sample.numel()))
    monkeypatch.setattr(likelihood, "MAX_LOGITS", 2 * 3 * (MASK + 1))  # a view of each of two blocks
    for name, expected in zip(ORDERS, whole, strict=True):
        found = pipe.score(texts, block=3, order=order_of(name, 3)).log_likelihoods
        assert torch.allclose(found, expected, rtol=1e-12)
    hook.remove()
    assert max(asked) <= 2 * 3 * (MASK + 1) and len(asked) > 30


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("lef", "order must be random, left, right, lowest-entropy or .*'lef'; did you mean left"),
        ("", "did you mean"),
        ([1, 0], "the order 1,0 is for blocks of 2 tokens, not 3"),
        ([0, 0, 1], "every position of a block once"),
        ([1, 2, 3], "every position of a block once"),
        ([], "every position of a block once"),
        ([0, 1, True], "a list of positions"),
        ([0, 1.0, 2], "a list of positions"),
        (None, "a list of positions"),
        (7, "a list of positions"),
    ],
)
def test_orders_that_there_are_not(pipe, order, words):
    with pytest.raises(UserError, match=words):
        pipe.score("ab", block=3, order=order)


def test_networks_with_times_have_no_likelihood_in_order():
    timed = tiny_model(in_channels=None, axis_lengths=(6,), vocab_size=MASK + 1, num_classes=None)
    with pytest.raises(UserError, match="order left is for networks without time conditioning"):
        key, tokens = SampleKey(0, [0], [0]), torch.zeros(1, 6).long()
        text_bounds(timed, tokens, torch.tensor([6]), Layout((6,), (3,)), key=key, draws=2, order="left")


@pytest.mark.parametrize("order", ["random", "left", "lowest-entropy"])
def test_a_text_without_tokens_to_score_is_refused(pipe, order):
    key, tokens = SampleKey(0, [0, 1], [0, 1]), torch.zeros(2, 6).long()
    for lengths, starts in (([0, 5], None), ([3, 5], [3, 0])):
        with pytest.raises(UserError, match="at least one token to score"):
            text_bounds(
                pipe.transformer,
                tokens,
                torch.tensor(lengths),
                Layout((6,), (3,)),
                key=key,
                draws=2,
                order=order,
                starts=None if starts is None else torch.tensor(starts),
            )


def test_a_scheduler_of_other_blocks_is_refused_before_anything_is_computed():
    pipe = pipeline()
    pipe.scheduler = FixedOrderScheduler(mask_token=MASK, positions=[1, 0])
    pipe("a", block=2)
    hook = pipe.transformer.register_forward_hook(lambda *_: pytest.fail("the network was called"))
    with pytest.raises(UserError, match="order 1,0 is for blocks of 2 tokens, not 3"):
        pipe("a", block=3)
    hook.remove()
    pipe.scheduler = FirstHittingScheduler(mask_token=MASK)
