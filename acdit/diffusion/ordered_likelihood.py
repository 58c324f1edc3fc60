"""Likelihoods of texts under samplers that reveal the tokens of a block in an order, one by one.

Such a sampler (`FixedOrderScheduler`, `LowestEntropyScheduler`, as many steps as a block has tokens,
temperature 1) goes through one sequence of positions for every text, so -log p of a text is the sum of -log p
of its tokens, each given the tokens that are revealed before it. No bound is needed. For a fixed order all
views of a block are known beforehand and share calls of the network; an order that depends on the tokens is
followed step by step, in all blocks at once.

Where a text ends inside a block, the sampler also fills in the rest of the block, the tail, and cuts it.
Tokens of the tail that are revealed before the last token of the text are summed over where they are few,
which is exact. Elsewhere they are drawn as the sampler draws them, and the mean of -log p over the draws is
an upper bound, as in `text_likelihood`.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from ..model.layout import Layout
from ..model.transformer import ACDiTTransformer
from ..utils.errors import UserError
from ..utils.randomness import generator
from .likelihood import calls
from .masked import Schedule
from .objective import SampleKey
from .orders import RANDOM, Order, checked_order, fixed_positions, order_name
from .revealed_views import Revealed, ordered_nll
from .text_likelihood import MAX_STATES, Estimate, TextBounds, Texts, text_nelbo


def text_bounds(
    model: ACDiTTransformer,
    tokens: Tensor,
    lengths: Tensor,
    layout: Layout,
    *,
    key: SampleKey,
    draws: int,
    order: Order = RANDOM,
    estimate: Estimate = "counts",
    schedule: Schedule = "log_linear",
    starts: Tensor | None = None,
) -> TextBounds:
    """Compute -log p of texts in an order of revealing tokens, or its bound over random orders.

    Args:
        model: See `text_nelbo`, as for the arguments that are not named here.
        tokens: Token ids (N, L).
        lengths: Number of tokens of each text, (N,).
        layout: Layout of (L,).
        key: Key of the random draws.
        draws: Number of draws. For an order other than `random` only tails are drawn, where they are many.
        order: Order in which the tokens of a block are revealed. Values are exact for one that is not random,
            except where tails are drawn.
        estimate: Method of estimation, for random order.
        schedule: Noise schedule, for random order.
        starts: Number of given tokens of each text, (N,), which count as revealed; None = 0.

    Raises:
        UserError: If there is no such order, it is for other blocks, the network has time conditioning and
            the order is not random, or a text has no token to score.
    """
    check_order_fits(order, model, layout.block_tokens)
    if (lengths <= (0 if starts is None else starts)).any():
        raise UserError("every text needs at least one token to score")
    if order == RANDOM:
        return text_nelbo(
            model,
            tokens,
            lengths,
            layout,
            key=key,
            draws=draws,
            estimate=estimate,
            schedule=schedule,
            starts=starts,
        )
    size, vocabulary = layout.block_tokens, model.config["vocab_size"]
    positions = fixed_positions(order, size)
    starts = torch.zeros_like(lengths) if starts is None else starts
    every = Texts(tokens, starts, lengths, layout, key)
    groups: dict[tuple[int, int, tuple[int, ...]], list[int]] = defaultdict(list)
    for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        first, stop = start // size, -(-length // size)
        before = range(max(0, start - (stop - 1) * size), length - (stop - 1) * size)
        groups[first, stop, _tail(positions, before, size)].append(row)
    values, variances = torch.zeros(2, len(lengths), dtype=torch.float64)
    summed = torch.ones(len(lengths), dtype=torch.bool)
    for (first, stop, tail), members in groups.items():
        for part in calls(len(members), (stop - first) * size * vocabulary):
            rows, whole = members[part], range(first, stop - bool(tail))
            if whole:
                texts = every.of(rows, whole)
                values[rows] += ordered_nll(model, texts, _one_view(texts), positions).sum((1, 2))
            if not tail:
                continue
            texts = every.of(rows, range(stop - 1, stop))
            if (vocabulary - 1) ** len(tail) <= MAX_STATES:
                views = _with_all_tails(_one_view(texts), tail, vocabulary - 1)
                nats = ordered_nll(model, texts, views, positions)[:, 0]  # (N, tails)
                values[rows] -= (-nats).logsumexp(1)
                continue
            views = _with_drawn_tails(_one_view(texts), tail, texts.key, draws)
            nats = ordered_nll(model, texts, views, positions)[:, 0]  # (N, D)
            values[rows] += nats.mean(1)
            variances[rows] = nats.var(1) / draws if draws > 1 else torch.nan
            summed[rows] = False
    return TextBounds(values, variances, summed)


def check_order_fits(order: Order, model: ACDiTTransformer, size: int) -> None:
    """Check that a network has likelihoods in an order of revealing the tokens of blocks of `size` tokens.

    Raises:
        UserError: If there is no such order, it is for other blocks, or the network has time conditioning and
            the order is not random.
    """
    if checked_order(order) == RANDOM:
        return
    if model.config["time_conditioning"]:
        raise UserError(
            f"order {order_name(order)} is for networks without time conditioning: in such an order, a block "
            "is at no time of the noise process that this network could be given; use random"
        )
    fixed_positions(order, size)


def _tail(positions: Sequence[int] | None, text: range, size: int) -> tuple[int, ...]:
    """Return the positions after a text's end in its last block that may be revealed before its last token.

    Args:
        positions: Positions of a block in a fixed order; None = an order that depends on the tokens.
        text: Positions of the text in this block.
        size: Number of tokens of a block.
    """
    if positions is None:
        return tuple(range(text.stop, size))
    last = max(positions.index(position) for position in text)
    return tuple(sorted(position for position in positions[:last] if position >= text.stop))


def _one_view(texts: Texts) -> Revealed:
    """Return one view of each block, of which the tokens of the texts that are not given are masked."""
    size = texts.layout.block_tokens
    first = int(texts.starts.min()) // size
    places = torch.arange(first * size, texts.layout.num_tokens).view(1, -1, 1, size)  # (1, T, 1, B)
    hidden = places >= texts.lengths.view(-1, 1, 1, 1)
    masked = (places >= texts.starts.view(-1, 1, 1, 1)) & ~hidden
    return Revealed(texts.blocks[:, first:, None].cpu(), masked, hidden, masked)


def _with_all_tails(view: Revealed, tail: Sequence[int], tokens: int) -> Revealed:
    """Return a view for every choice of the tokens of a tail, whose probabilities count too."""
    tails = torch.tensor(list(product(range(tokens), repeat=len(tail))))  # (S, tail)
    views = view.repeated(len(tails))
    for mask, value in ((views.masked, True), (views.scored, True), (views.hidden, False)):
        mask[..., list(tail)] = value
    views.targets[..., list(tail)] = tails
    return views


def _with_drawn_tails(view: Revealed, tail: Sequence[int], key: SampleKey, draws: int) -> Revealed:
    """Return a view for every draw of the tokens of a tail, whose probabilities do not count."""
    views = view.repeated(draws)
    for mask, value in ((views.masked, True), (views.hidden, False)):
        mask[..., list(tail)] = value
    size = views.targets.shape[-1]
    uniform = [
        torch.rand(size, generator=generator(key.seed, "ordered tails", *sample, draw), dtype=torch.float64)
        for sample in zip(key.epochs, key.indices, strict=True)
        for draw in range(draws)
    ]
    return views._replace(uniform=torch.stack(uniform).view(views.targets.shape))
