"""A Markov chain of tokens, whose likelihood is known, and the network that knows its exact posterior."""

from functools import cache
from itertools import product
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

STATES = 3
MASK = STATES  # the last of four tokens
START = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MOVES = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.05, 0.45]], dtype=torch.float64)


def negative_log_likelihood(tokens: Tensor) -> Tensor:
    """Of sequences (N, L), in nats: (N,)."""
    first, later = START[tokens[:, 0]].log(), MOVES[tokens[:, :-1], tokens[:, 1:]].log()
    return -(first + later.sum(1))


def draw(count: int, length: int, seed: int = 0) -> Tensor:
    """Sequences (count, length) of the chain."""
    source = torch.Generator().manual_seed(seed)
    tokens = torch.multinomial(START, count, replacement=True, generator=source)[:, None]
    for _ in range(length - 1):
        following = torch.multinomial(MOVES[tokens[:, -1]], 1, generator=source)
        tokens = torch.cat((tokens, following), dim=1)
    return tokens


def sequences(length: int) -> Tensor:
    """All of them, (STATES ** length, length)."""
    return torch.tensor(list(product(range(STATES), repeat=length)))


@cache
def moves_in(steps: int) -> Tensor:
    """Probabilities (STATES, STATES) of moves in several steps."""
    return torch.eye(STATES, dtype=torch.float64) if steps == 0 else moves_in(steps - 1) @ MOVES


@cache  # the same few blocks come again and again
def posterior(block: tuple[int, ...], past: int | None) -> Tensor:
    """Distributions (B, STATES) of tokens, given those not masked and the one before the block."""
    size = len(block)
    rows = []
    for place in range(size):
        left = max((at for at in range(place) if block[at] != MASK), default=None)
        right = min((at for at in range(place + 1, size) if block[at] != MASK), default=None)
        if left is not None:
            ahead = moves_in(place - left)[block[left]]
        else:
            ahead = START @ moves_in(place) if past is None else moves_in(place + 1)[past]
        behind = 1.0 if right is None else moves_in(right - place)[:, block[right]]
        weights = ahead * behind
        rows.append(weights / weights.sum())
    return torch.stack(rows)


class ExactChain:
    """A network as `generate` and `nelbo` call it, whose answer is the chain's exact posterior.

    Args:
        wrong: added to the logits of one token: a network that does not know the chain.
    """

    dtype = torch.float64
    config = {"num_classes": None, "vocab_size": STATES + 1}

    context_sees_labels = False

    def __init__(self, wrong: float = 0.0):
        self.wrong = wrong
        self.calls: list[tuple[int, ...]] = []  # the blocks asked for

    def new_cache(self, layout, batch, window=None, sinks=0, device=None):
        return SimpleNamespace(tokens=None, takes_beside_views=lambda count: True)

    def __call__(self, noised, timestep, *, layout, blocks, clean=None, labels=None, cache=None):
        if cache is not None:
            held = [part for part in (cache.tokens, clean) if part is not None]
            clean = cache.tokens = torch.cat(held, dim=1) if held else None
        self.calls.append(tuple(blocks))
        before, pasts = torch.tensor(list(blocks)) - 1, torch.full(noised.shape[:2], -1)  # -1: no past
        if clean is not None and clean.shape[1]:
            pasts = clean[:, before.clamp(min=0), -1].masked_fill(before < 0, -1)
        given = torch.cat((noised, pasts[..., None]), -1).flatten(0, 1)
        kinds, rows = given.unique(dim=0, return_inverse=True)
        known = [posterior(tuple(block), None if past < 0 else past) for *block, past in kinds.tolist()]
        logits = torch.full((*noised.shape, STATES + 1), 50.0, dtype=torch.float64)  # of the mask
        logits[..., :MASK] = torch.stack(known)[rows].log().view(*noised.shape, MASK)
        logits[..., 0] += self.wrong
        return SimpleNamespace(sample=logits)


def exact_chain(wrong: float = 0.0) -> Any:
    """A network that answers as `ExactChain` does."""
    return ExactChain(wrong)
