"""Samplers of masked diffusion that reveal the tokens of a block in a fixed or in a chosen order."""

import math
from abc import abstractmethod

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from ..utils.errors import UserError
from .masked import Schedule
from .masked_schedulers import MaskedScheduler, logits_at
from .orders import LEFT, LOWEST_ENTROPY, RANDOM, Order, checked_order, fixed_positions

TIE = 1e-4  # difference of entropies in nats that may come from rounding
VALUES = 2**16  # number of logits in float64 at once: more do not stay in the processor's cache


class OrderedScheduler(MaskedScheduler):
    """Base class of the samplers that fill one token after another in an order.

    The next position depends on the tokens that are already revealed, given ones included, and not on random
    numbers: with temperature 0 the samples are the same for every seed. Each step fills the next token of the
    order. With fewer steps than tokens, a step fills the next ones of the order together, evenly over the
    steps, and draws them independently of each other. The samplers are for networks without time
    conditioning.
    """

    def _select(
        self, count: int, step_index: int, source: torch.Generator | None, priorities: Tensor | None
    ) -> Tensor:
        assert priorities is not None
        remaining, chosen = priorities.clone(), []
        for _ in range(self._due(count, step_index)):
            chosen.append(int(first_lowest(remaining)))
            remaining[chosen[-1]] = math.inf
        return torch.tensor(chosen)

    @abstractmethod
    def _priorities(self, model_output: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
        """Return numbers (n,) on the CPU; masked tokens with lower ones are filled first."""


class FixedOrderScheduler(OrderedScheduler):
    """Reveal the masked tokens of every block in a fixed order of its positions.

    Args:
        mask_token: See `MaskedScheduler`.
        schedule: See `MaskedScheduler`.
        temperature: See `MaskedScheduler`.
        top_p: See `MaskedScheduler`.
        positions: `left` for left to right, `right` for right to left, or a list that holds every position of
            a block once, in the order in which they are revealed, for blocks of this size alone.
    """

    @register_to_config
    def __init__(
        self,
        *,
        mask_token: int,
        schedule: Schedule = "log_linear",
        temperature: float = 1.0,
        top_p: float = 1.0,
        positions: Order = LEFT,
    ):
        if checked_order(positions, "positions") in (RANDOM, LOWEST_ENTROPY):
            raise UserError(f"positions must be left, right or a list of positions, not {positions!r}")
        super().__init__(mask_token=mask_token, schedule=schedule, temperature=temperature, top_p=top_p)

    def check_block(self, tokens: int) -> None:
        """Raise UserError if the positions are those of blocks of another number of tokens."""
        fixed_positions(self.config["positions"], tokens)

    def _priorities(self, model_output: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
        """Return the rank (n,) of each position in the order."""
        return ranks_of(fixed_positions(self.config["positions"], model_output.shape[1]) or ())[positions]


class LowestEntropyScheduler(OrderedScheduler):
    """Reveal the masked tokens in an order that the network chooses: the most certain one is next.

    It is the one whose predicted distribution, given the tokens that are revealed, has the lowest entropy.
    Temperature and top_p do not change the entropies, and nearly equal ones go from left to right. The choice
    is made before the token is drawn, so it does not depend on what is drawn there. The arguments are those
    of `MaskedScheduler`.
    """

    def _priorities(self, model_output: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
        """Return the entropy (n,) of each prediction, in nats."""
        return entropies(model_output, rows, positions)


def entropies(logits: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
    """Return the entropies (n,) of predictions at positions of rows, in nats, as float64 on the CPU.

    Args:
        logits: Logits (N, B, V), with the mask last, which is never predicted.
        rows: Rows (n,).
        positions: Positions (n,).

    Raises:
        UserError: If an entropy is not finite.
    """
    size = max(1, VALUES // logits.shape[-1])
    parts = zip(rows.split(size), positions.split(size), strict=True)
    values = [torch.special.entr(logits_at(logits, *part).softmax(-1)).sum(-1).cpu() for part in parts]
    joined = torch.cat(values)
    if not joined.isfinite().all():
        raise UserError("the network's output is not finite; try float32, or a model whose weights are sound")
    return joined


def first_lowest(priorities: Tensor) -> Tensor:
    """Return the index of the lowest number along the last axis; of nearly equal ones the first.

    So rounding, which depends on the size of a batch, does not decide between predictions that are equal.
    """
    return (priorities <= priorities.amin(-1, keepdim=True) + TIE).int().argmax(-1)


def ranks_of(positions: Order) -> Tensor:
    """Return the rank (B,) of each position in a fixed order of positions."""
    return torch.tensor(positions).argsort().double()


for _public in (FixedOrderScheduler, LowestEntropyScheduler):
    _public.__module__ = "acdit"  # saved files refer to this module, so that the code can be moved
