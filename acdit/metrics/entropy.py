"""How varied the tokens of texts are."""

from collections.abc import Sequence

import torch


def token_entropy(rows: Sequence[torch.Tensor]) -> float:
    """The mean over texts, as ids (L,), of the entropy in nats of which tokens they are made of."""
    entropies = []
    for row in rows:
        shares = torch.unique(row, return_counts=True)[1].double() / len(row)
        entropies.append(-(shares * shares.log()).sum().item())
    return sum(entropies) / len(entropies)
