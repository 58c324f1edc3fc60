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
    texts = ["abcd", "abcdefgh"]
    scores = pipe.score(texts, block=size)
    expected = [by_orders(pipe.transformer, BYTES.encode(text), size) for text in texts]
    assert scores.log_likelihoods.tolist() == pytest.approx(expected, rel=1e-9)
    assert scores.standard_errors.tolist() == [0.0] * 2 and scores.tokens.tolist() == [4, 8]


def test_ends_count_when_asked(pipe):
    scores = pipe.score("abc", block=1, ends=True)
    ids = [*BYTES.encode("abc"), BYTES.eos]
    assert scores.log_likelihoods.item() == pytest.approx(by_orders(pipe.transformer, ids, 1), rel=1e-9)
    assert scores.tokens.tolist() == [4]


def test_estimates_of_larger_blocks(pipe):
    scores = pipe.score("abcdef", block=8, draws=100)
    few = pipe.score("abcdef", block=8, draws=10)
    assert 0 < scores.standard_errors.item() < few.standard_errors.item() < 2
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


@pytest.mark.parametrize("block", [2, 4, 8, 16])
def test_a_text_s_score_does_not_depend_on_its_neighbours(pipe, block):
    """Of texts of few and of many blocks, with and without prompts, in two orders."""
    texts = ["abc", "one of thirty-one letters, a text", "a longer one", "abc", "exactly sixteen!"]
    texts = [text[: LENGTH - 1] for text in texts]
    alone = torch.cat([pipe.score(text, block=block, ends=True).log_likelihoods for text in texts])
    assert alone[0] == alone[3]
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 1]):
        together = pipe.score([texts[row] for row in order], block=block, ends=True)
        assert torch.allclose(together.log_likelihoods, alone[order], rtol=1e-9)
    prompts, given = ["", "abcdefghij", "ab"], texts[:1] * 3
    together = pipe.score(prompts, given, block=block)
    for row, prompt in enumerate(prompts):
        one = pipe.score(prompt, given[row], block=block)
        assert torch.allclose(one.log_likelihoods, together.log_likelihoods[row], rtol=1e-9)
        assert torch.allclose(one.standard_errors, together.standard_errors[row], rtol=1e-6)


def test_a_prompt_without_tokens_changes_nothing(pipe):
    for block in (1, 4, 8):
        assert torch.equal(
            pipe.score("", ["abcde", "f"], block=block).log_likelihoods,
            pipe.score(["abcde", "f"], block=block).log_likelihoods,
        )


def test_blocks_of_one_token_keep_the_chain_rule(pipe):
    whole, first = (pipe.score(text, block=1).log_likelihoods for text in ("abcdef", "abcd"))
    rest = pipe.score("abcd", "ef", block=1).log_likelihoods
    assert torch.allclose(first + rest, whole, rtol=1e-12)


@pytest.mark.parametrize(
    ("prompts", "texts", "count"),
    [
        ("ab", "c", 1),
        ("ab", ["c", "d"], 2),
        (["ab", "a"], "c", 2),
        (["ab", "a"], ("c", "d"), 2),
        ([], "a", 0),
    ],
)
def test_prompts_and_continuations_are_paired(pipe, prompts, texts, count):
    if not count:
        with pytest.raises(UserError, match="at least one"):
            pipe.score(prompts, texts)
        return
    listed = [prompts] * count if isinstance(prompts, str) else prompts
    after = [texts] * count if isinstance(texts, str) else texts
    expected = [
        pipe.score(prompt, text).log_likelihoods.item() for prompt, text in zip(listed, after, strict=True)
    ]
    assert pipe.score(prompts, texts).log_likelihoods.tolist() == pytest.approx(expected, rel=1e-9)


def test_the_end_alone_is_a_continuation(pipe):
    score = pipe.score("abcd", "", block=1, ends=True)
    assert score.tokens.tolist() == [1]
    whole = pipe.score("abcd", block=1, ends=True).log_likelihoods
    assert torch.allclose(score.log_likelihoods + pipe.score("abcd", block=1).log_likelihoods, whole)


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
        (["a", "b"], {"continuations": ["c"]}, "one per prompt: there are 2 prompts and 1 continuations"),
        (["a"], {"continuations": [""]}, "at least one token"),
        ("x" * LENGTH, {"continuations": "c"}, f"with its continuation has {LENGTH + 1} tokens, more than"),
    ],
)
def test_what_cannot_be_scored(pipe, texts, options, said):
    with pytest.raises(UserError, match=said):
        pipe.score(texts, **options)
