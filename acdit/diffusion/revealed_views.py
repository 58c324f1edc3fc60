"""Negative log-likelihoods of tokens of blocks that are revealed one by one in an order."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..model.transformer import ACDiTTransformer
from .likelihood import calls, checked
from .masked import draw_tokens
from .ordered_schedulers import entropies, first_lowest, ranks_of
from .text_likelihood import Texts

NextPositions = Callable[[Tensor, Tensor], Tensor]  # of logits and masked positions


class Revealed(NamedTuple):
    """Views of blocks, the last T of a layout, whose masked tokens are revealed: S views of each block.

    Attributes:
        targets: Tokens of the blocks, (N, T, S, B).
        masked: Mask (N, T, S, B) of the tokens that are masked at first, and then revealed.
        hidden: Mask (N, T, S, B) of the positions that stay masked.
        scored: Mask (N, T, S, B) of the tokens of `masked` whose probabilities count.
        uniform: Numbers (N, T, S, B) in [0, 1) from which the tokens of `masked` that are not scored are
            drawn; None = all are scored.
    """

    targets: Tensor
    masked: Tensor
    hidden: Tensor
    scored: Tensor
    uniform: Tensor | None = None

    def of(self, views: slice) -> "Revealed":
        """Return some of the S views of each block."""
        return Revealed(*(None if part is None else part[:, :, views] for part in self))  # pyright: ignore[reportArgumentType]

    def repeated(self, views: int) -> "Revealed":
        """Return this number of copies of a single view of each block."""
        return Revealed(
            *(None if part is None else part.repeat(1, 1, views, 1) for part in self)  # pyright: ignore[reportArgumentType]
        )


@torch.no_grad()
def ordered_nll(
    model: ACDiTTransformer, texts: Texts, revealed: Revealed, positions: list[int] | None
) -> Tensor:
    """Return the sum of -log p of the scored tokens of each view, (N, T, S), in float64.

    Args:
        model: Network over token ids without time conditioning, with the mask as the last id.
        texts: Texts of whose last blocks the views are.
        revealed: Views of these blocks.
        positions: Positions of a block in a fixed order; None = that of the lowest entropy is next.

    Raises:
        UserError: If a probability is not finite.
    """
    network = _Network(model, texts)
    values = revealed.targets[:, :, 0].numel() * model.config["vocab_size"]  # logits of a view of each block
    if positions is not None and revealed.uniform is None:
        return checked(_all_steps(network, revealed, positions, values))
    following = _lowest_entropy if positions is None else partial(_lowest_rank, ranks_of(positions))
    parts = calls(revealed.targets.shape[2], values)
    return checked(torch.cat([_step_by_step(network, revealed.of(part), following) for part in parts], dim=2))


class _Network:
    """Network that predicts views of a batch of texts; all its calls share one pass over the clean blocks."""

    def __init__(self, model: ACDiTTransformer, texts: Texts):
        self.model, self.layout, blocks = model, texts.layout, texts.blocks
        self.device, self.mask = blocks.device, model.config["vocab_size"] - 1
        self.clean = self.cache = None
        if self.layout.num_blocks > 1:
            self.clean = blocks[:, :-1]
            self.cache = model.new_cache(self.layout, len(blocks), device=blocks.device)

    def __call__(self, shown: Tensor) -> Tensor:
        """Return the logits (N, T, S, B, V) of views (N, T, S, B) of the last T blocks."""
        blocks, views = shown.shape[1:3]
        first = self.layout.num_blocks - blocks
        logits = self.model(
            shown.flatten(1, 2).to(self.device),
            None,
            layout=self.layout,
            blocks=tuple(block for block in range(first, self.layout.num_blocks) for _ in range(views)),
            clean=self.clean,
            cache=self.cache,
        ).sample
        self.clean = None  # cached from now on
        return logits.unflatten(1, (blocks, views))


def _all_steps(network: _Network, revealed: Revealed, positions: list[int], values: int) -> Tensor:
    """Return `ordered_nll` for a fixed order, whose steps are views of the same calls."""
    targets, masked, hidden, scored, _ = revealed
    ranks = ranks_of(positions)
    steps = [
        (view, step)
        for view in range(targets.shape[2])
        for step, position in enumerate(positions)
        if scored[:, :, view, position].any()
    ]
    total = torch.zeros(targets.shape[:3], dtype=torch.float64)
    for part in calls(len(steps), values):
        views, step = torch.tensor(steps[part]).unbind(1)  # (D,) of these views of each block
        unseen = (masked[:, :, views] & (ranks >= step[:, None])) | hidden[:, :, views]
        logits = network(targets[:, :, views].masked_fill(unseen, network.mask))  # (N, T, D, B, V)
        places = torch.tensor(positions)[step].expand(unseen.shape[:3])
        nats = _nll(_at(logits, places), targets[:, :, views].gather(-1, places[..., None])[..., 0])
        counts = scored[:, :, views].gather(-1, places[..., None])[..., 0]
        total.index_add_(2, views, torch.where(counts, nats, 0.0))
    return total


def _step_by_step(network: _Network, revealed: Revealed, following: NextPositions) -> Tensor:
    """Return `ordered_nll` for an order that depends on what is revealed, or with tokens that are drawn."""
    targets, masked, hidden, scored, uniform = revealed
    shown = targets.masked_fill(masked | hidden, network.mask)
    total = torch.zeros(targets.shape[:3], dtype=torch.float64)
    while (masked & scored).any():
        logits = network(shown)  # (N, T, S, B, V)
        places = following(logits, masked)[..., None]  # (N, T, S, 1)
        here = _at(logits, places[..., 0])
        due, counts = (mask.gather(-1, places)[..., 0] for mask in (masked, scored))
        tokens = targets.gather(-1, places)[..., 0]
        if uniform is not None:
            drawn = draw_tokens(here, uniform.gather(-1, places)[..., 0])
            tokens = torch.where(counts, tokens, drawn)
        total += torch.where(due & counts, _nll(here, tokens), 0.0)
        tokens = torch.where(due[..., None], tokens[..., None], shown.gather(-1, places))
        shown = shown.scatter(-1, places, tokens)
        masked = masked.scatter(-1, places, False)
    return total


def _lowest_entropy(logits: Tensor, masked: Tensor) -> Tensor:
    """Return the masked position (N, T, S) with the lowest entropy; see `LowestEntropyScheduler`."""
    rows, positions = masked.flatten(0, 2).nonzero(as_tuple=True)
    values = torch.full(masked.flatten(0, 2).shape, torch.inf, dtype=torch.float64)
    values[rows, positions] = entropies(logits.flatten(0, 2), rows, positions)
    return first_lowest(values).view(masked.shape[:3])


def _lowest_rank(ranks: Tensor, logits: Tensor, masked: Tensor) -> Tensor:
    """Return the masked position (N, T, S) that is the first in a fixed order."""
    del logits
    return ranks.expand(masked.shape).masked_fill(~masked, torch.inf).argmin(-1)


def _at(logits: Tensor, places: Tensor) -> Tensor:
    """Return the logits (.., V) at places (..) of views (.., B, V), in float64 on the CPU."""
    index = places.to(logits.device)[..., None, None].expand(*places.shape, 1, logits.shape[-1])
    return logits.gather(-2, index).squeeze(-2).double().cpu()


def _nll(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return -log p of tokens (..) from logits (.., V), of which the mask's is dropped."""
    logits = logits[..., :-1].log_softmax(-1)
    padding = logits.shape[-1] - 1  # positions that do not count may hold the mask
    return -logits.gather(-1, tokens.clamp(max=padding)[..., None])[..., 0]
