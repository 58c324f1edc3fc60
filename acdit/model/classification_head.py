"""Heads that map the hidden states of a layer to logits of classes: norm, pooling, linear layer."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from .layers import NORM_EPS, ModulatedNorm
from .linear import Linear

Pooling = Literal["mean", "last", "attention"]
POOLINGS: tuple[str, ...] = get_args(Pooling)


class AttentionPooling(nn.Module):
    """Pooling by learned queries (arXiv 2506.10178).

    Query q attends to the tokens themselves, without a projection of keys, and pools the q-th part of their
    projected values. The parts are concatenated.

    Args:
        hidden_size: Width of the tokens.
        queries: Number of queries, a divisor of the hidden size.
    """

    def __init__(self, hidden_size: int, queries: int):
        super().__init__()
        if queries < 1 or hidden_size % queries:
            raise ValueError(
                f"the number of queries must divide the hidden size {hidden_size}, not {queries}"
            )
        self.queries = nn.Parameter(torch.empty(queries, hidden_size))
        self.value = Linear(hidden_size, hidden_size, bias=False)
        nn.init.normal_(self.queries, std=0.02)
        nn.init.xavier_uniform_(self.value.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool tokens (N, L, hidden) to vectors (N, hidden)."""
        scores = tokens @ self.queries.T / math.sqrt(tokens.shape[-1])  # (N, L, Q)
        values = self.value(tokens).unflatten(-1, (len(self.queries), -1))  # (N, L, Q, hidden / Q)
        return (scores.softmax(1)[..., None] * values).sum(1).flatten(1)


class ClassificationHead(nn.Module):
    """Norm of every token, pooling over tokens, and a linear layer; the linear layer is zero at first.

    Args:
        hidden_size: Width of the tokens.
        num_labels: Number of classes.
        pooling: `mean` over all tokens, `last` for the mean over the last block, or `attention`.
        queries: Number of queries of attention pooling.
    """

    def __init__(self, hidden_size: int, num_labels: int, pooling: Pooling, queries: int):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, not {pooling!r}")
        self.pooling = pooling
        self.norm = ModulatedNorm(hidden_size, eps=NORM_EPS)
        self.pool = AttentionPooling(hidden_size, queries) if pooling == "attention" else None
        self.linear = Linear(hidden_size, num_labels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Map hidden states (N, T, B, hidden) to logits (N, classes)."""
        tokens = self.norm(states)
        if self.pool is not None:
            return self.linear(self.pool(tokens.flatten(1, 2)))
        return self.linear((tokens[:, -1] if self.pooling == "last" else tokens.flatten(1, 2)).mean(1))
