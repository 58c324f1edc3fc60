"""Log-likelihoods of the text pipeline, against loops over orders and tokens."""

from itertools import permutations

import pytest
import torch

from acdit.diffusion import likelihood
from acdit.model.layout import Layout
from acdit.utils.errors import UserError
from tests.pipelines.test_text import BYTES, LENGTH, pipeline


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def log_probability(model, layout, clean, block, seen, place):
    """log p of the token at a place of a block, given the finished blocks and what is seen of its own."""
    target = clean[:, block]
    shown = torch.full_like(target, BYTES.mask)
    shown[:, seen] = target[:, seen]
    with torch.no_grad():
        logits = model(
            shown[:, None], None, layout=layout, blocks=(block,), clean=clean[:, :block] if block else None
        ).sample
    return logits[0, 0, place, :-1].log_softmax(-1)[target[0, place]].item()


def by_orders(model, ids, size):
    """The bound as the mean over all orders in which the tokens of a block may be revealed."""
    whole = -(-len(ids) // size)
    layout = Layout((whole * size,), (size,))
    filled = torch.tensor(ids + [0] * (whole * size - len(ids))).view(1, whole, size)
    total = 0.0
    for block in range(whole):
        real = min(size, len(ids) - block * size)
        orders = list(permutations(range(real)))
        for order in orders:
            for at, place in enumerate(order):
                found = log_probability(model, layout, filled, block, list(order[:at]), place)
                total += found / len(orders)
    return total


@pytest.mark.parametrize("size", [1, 2, 4])
def test_exact_scores(pipe, size):
    texts = ["a", "abcde", "abcdefg"]
    scores = pipe.score(texts, block=size)
    expected = [by_orders(pipe.transformer, BYTES.encode(text), size) for text in texts]
    assert scores.log_likelihoods.tolist() == pytest.approx(expected, rel=1e-9)
    assert scores.standard_errors.tolist() == [0.0] * 3 and scores.tokens.tolist() == [1, 5, 7]


def test_ends_count_when_asked(pipe):
    scores = pipe.score("abc", block=1, ends=True)
    ids = [*BYTES.encode("abc"), BYTES.eos]
    assert scores.log_likelihoods.item() == pytest.approx(by_orders(pipe.transformer, ids, 1), rel=1e-9)
    assert scores.tokens.tolist() == [4]


def test_estimates_of_larger_blocks(pipe):
    ids = BYTES.encode("abcde")
    scores = pipe.score("abcde", block=8, draws=400)
    error = scores.standard_errors.item()
    assert 0 < error < 0.5
    assert abs(scores.log_likelihoods.item() - by_orders(pipe.transformer, ids, 8)) < 4 * error
    assert pipe.score("abcde", block=8).log_likelihoods == pipe.score("abcde", block=8).log_likelihoods


def test_scores_are_the_same_in_parts(pipe, monkeypatch):
    """A call makes no more logits than a bound, over texts and over views."""
    texts, whole = ["abc", "a longer one", "one more"], []
    for size in (4, 8):
        whole.append(pipe.score(texts, block=size).log_likelihoods)
    asked, forward = [], pipe.transformer.forward

    def counted(*given, **named):
        made = forward(*given, **named)
        asked.append(made.sample.numel())
        return made

    monkeypatch.setattr(pipe.transformer, "forward", counted)
    most = 2 * 16 * BYTES.vocab_size  # two views of a text
    monkeypatch.setattr(likelihood, "MAX_LOGITS", most)
    for size, expected in zip((4, 8), whole, strict=True):
        found = pipe.score(texts, block=size).log_likelihoods
        assert torch.allclose(found, expected, rtol=1e-12)
    assert max(asked) <= most and len(asked) > 30


def test_a_text_s_score_does_not_depend_on_its_neighbours(pipe):
    texts = ["abc", "a longer one"]
    for block in (4, 16):
        together = pipe.score(texts, block=block).log_likelihoods
        alone = torch.cat([pipe.score(text, block=block).log_likelihoods for text in texts])
        assert torch.allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize(
    ("texts", "options", "said"),
    [
        ("x" * (LENGTH + 1), {}, f"more than the model's context length {LENGTH}"),
        ("x" * LENGTH, {"ends": True}, f"more than the model's context length {LENGTH}"),
        (["a", ""], {}, "at least one token"),
        ([], {}, "at least one token"),
        ("a", {"block": 5}, "block must divide"),
        ("a", {"block": 0}, "block must divide"),
        ("a", {"draws": 1}, "draws must be at least 2"),
    ],
)
def test_what_cannot_be_scored(pipe, texts, options, said):
    with pytest.raises(UserError, match=said):
        pipe.score(texts, **options)
