"""Generative perplexity against a model's own answers by hand; entropy in closed form."""

import copy
import math

import pytest
import torch

from acdit.data.tokenizers import END, train_tokenizer
from acdit.evaluation.language_model import ExternalLanguageModel
from acdit.metrics.entropy import perplexity, token_entropy
from acdit.utils.errors import UserError


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    """A GPT-2 of one layer with random weights, 16 places and a tokeniser of its own."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("causal")
    made = train_tokenizer(["the cat sat on the mat"] * 3, 270)
    inner = transformers.PreTrainedTokenizerFast(tokenizer_object=made._inner, eos_token=END)
    inner.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=made.size, n_positions=16, n_embd=8, n_layer=1, n_head=1)
    network = transformers.GPT2LMHeadModel(config).eval()
    network.save_pretrained(folder)
    return folder, network, inner


def by_hand(network, ids):
    """Sum of -log p of every id after the first, each from what stands before it."""
    total = 0.0
    for place in range(1, len(ids)):
        with torch.no_grad():
            logits = network(torch.tensor([ids[:place]])).logits[0, -1].double()
        total -= logits.log_softmax(-1)[ids[place]].item()
    return total


def test_generative_perplexity(causal):
    folder, network, inner = causal
    judge = ExternalLanguageModel(str(folder), torch.device("cpu"))
    texts = ["the cat", "a mat on the cat", "x", "the cat sat on the mat and went on to sit on it"]
    nats = tokens = 0
    for text in texts:
        ids = inner(text).input_ids[:16]
        expected = by_hand(network, ids)
        found, count = judge.negative_log_likelihood(text)
        assert found == pytest.approx(expected, rel=1e-5) and count == max(0, len(ids) - 1)
        nats, tokens = nats + expected, tokens + count
    assert judge.perplexity(texts) == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert judge.perplexity(["x"]) is None


def test_no_model_is_no_judge(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="cannot be loaded as a causal language model"):
        ExternalLanguageModel(str(tmp_path), torch.device("cpu"))
    with pytest.raises(UserError, match=r"--judge .*none does not exist"):
        ExternalLanguageModel(str(tmp_path / "none"), torch.device("cpu"))


def test_entropy_of_tokens():
    rows = [torch.tensor([5, 5, 5]), torch.tensor([1, 2, 3, 4]), torch.tensor([7, 7, 8, 8, 8, 8])]
    third = -(1 / 3 * math.log(1 / 3) + 2 / 3 * math.log(2 / 3))
    assert token_entropy(rows) == pytest.approx((0 + math.log(4) + third) / 3)
    assert token_entropy([row.tolist() for row in rows]) == token_entropy(rows)
    assert token_entropy([["a", "b", "a", "b"], []]) == pytest.approx(math.log(2) / 2)
    with pytest.raises(UserError, match="there are no texts"):
        token_entropy([])


def test_perplexity_that_is_not_finite():
    assert perplexity(math.log(7)) == pytest.approx(7)
    for nats in (710.0, math.inf, math.nan):
        with pytest.raises(UserError, match="no finite perplexity"):
            perplexity(nats)


def test_a_language_model_whose_perplexity_overflows(causal, tmp_path):
    """Finite logits of a network with huge weights: one line, not OverflowError or Infinity."""
    _, network, inner = causal
    inner.save_pretrained(tmp_path)
    network = copy.deepcopy(network)
    with torch.no_grad():
        network.transformer.ln_f.weight.fill_(1e6)
    network.save_pretrained(tmp_path)
    evaluator = ExternalLanguageModel(str(tmp_path), torch.device("cpu"))
    with pytest.raises(UserError, match="no finite perplexity"):
        evaluator.perplexity(["the cat sat on the mat"])
    assert evaluator.perplexity(["", "x"]) is None
