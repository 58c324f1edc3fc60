"""Entropy of the tokens of texts."""

from collections.abc import Sequence

import torch


def token_entropy(rows: Sequence[torch.Tensor]) -> float:
    """Return the mean entropy, in nats, of the token frequencies of each text, given as ids (L,)."""
    entropies = []
    for row in rows:
        frequencies = torch.unique(row, return_counts=True)[1].double() / len(row)
        entropies.append(-(frequencies * frequencies.log()).sum().item())
    return sum(entropies) / len(entropies)
