"""Entropy and perplexity of the tokens of texts."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import torch

from ..utils.errors import UserError

Tokens = torch.Tensor | Sequence[Hashable]


def entropy_of(tokens: Tokens) -> float:
    """Return the entropy, in nats, of the frequencies of the tokens of one text; 0 if there are none."""
    counts = Counter(tokens.tolist() if isinstance(tokens, torch.Tensor) else tokens)
    total = counts.total()
    return sum(-count / total * math.log(count / total) for count in counts.values()) + 0.0


def token_entropy(texts: Sequence[Tokens]) -> float:
    """Return the mean entropy, in nats, of the frequencies of the tokens of each text.

    It is the entropy that papers on diffusion of text report beside generative perplexity (arXiv 2604.02718):
    it grows with the length of the texts, and is at most the logarithm of the length.

    Args:
        texts: words or token ids (L,) of each text.

    Raises:
        UserError: if there is no text.
    """
    if not texts:
        raise UserError("there are no texts whose entropy could be measured")
    return sum(map(entropy_of, texts)) / len(texts)


def perplexity(nats: float) -> float:
    """Return the perplexity of tokens with a mean negative log-likelihood in nats.

    Raises:
        UserError: if it is not finite, or too large for a number of 64 bits.
    """
    try:
        value = math.exp(nats)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise UserError(
            f"tokens of {nats:.6g} nats have no finite perplexity: use --dtype float32, or a model that is "
            "trained on such texts"
        )
    return value
