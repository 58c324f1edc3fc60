"""Likelihoods of texts under the distribution of the sampler that fills in one token at a time.

The sampler (`FirstHittingScheduler`, as many steps as a block has tokens, temperature 1) fills the masked
tokens of a block in random order. The NELBO is the mean, over all orders, of the sum of -log p of the tokens,
each given what is visible when it is filled in. By Jensen's inequality it is at least -log p of the text.

Where a text ends inside a block, the sampler also fills in the rest of the block, the tail, and cuts it. The
probability of the text is the sum over all tails, so the bound is the mean over the orders and over the tails
that the sampler draws: tokens of the text are scored given the tokens of the tail that are filled in before
them. Tails are summed where they are few, and drawn elsewhere.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..model.layout import Layout
from ..model.transformer import ACDiTTransformer
from .likelihood import Masks, all_masks, calls, checked, counted_masks, nelbo, timed_masks
from .masked import Schedule, draw_tokens, time_of
from .objective import TRAIN_STEPS, SampleKey

EXACT_TOKENS = 4  # blocks of up to this many tokens are summed over all their 2^B - 1 sets
TEXT = -1  # in place of a token of the text that is visible
MAX_STATES = 2**9  # maximum number of views of a block, over whose tails the bound is summed
Estimate = Literal["counts", "times"]


class TextBounds(NamedTuple):
    """NELBO of texts in nats, in float64: upper bounds of -log p.

    Attributes:
        values: Bounds (N,), summed exactly or means of draws.
        variances: Variances (N,) of these means: 0 for sums, NaN for a single draw.
        summed: Mask (N,) of the bounds that are sums; those of blocks of one token are -log p itself.
    """

    values: Tensor
    variances: Tensor
    summed: Tensor


class Texts(NamedTuple):
    """Texts whose scored tokens begin in one block and end in one block, the last of the layout.

    Attributes:
        tokens: Token ids (N, L).
        starts: Number of given tokens of each text, (N,).
        lengths: Number of tokens of each text, (N,).
        layout: Layout of (L,).
        key: Key of the random draws.
    """

    tokens: Tensor
    starts: Tensor
    lengths: Tensor
    layout: Layout
    key: SampleKey

    @property
    def blocks(self) -> Tensor:
        """Return the token ids (N, T, B)."""
        return self.layout.to_blocks(self.tokens)

    def of(self, rows: Sequence[int], blocks: range) -> "Texts":
        """Return some of the texts up to the last of the blocks; the tokens before the first are given."""
        size, key, chosen = self.layout.block_tokens, self.key, list(rows)
        layout = Layout((blocks.stop * size,), (size,))
        positions = None if key.positions is None else [key.positions[row] for row in rows]
        epochs, indices = ([values[row] for row in rows] for values in (key.epochs, key.indices))
        return Texts(
            self.tokens[chosen, : layout.num_tokens],
            self.starts[chosen].clamp(min=blocks.start * size),
            self.lengths[chosen].clamp(max=layout.num_tokens),
            layout,
            replace(key, epochs=epochs, indices=indices, positions=positions),
        )


def text_nelbo(
    model: ACDiTTransformer,
    tokens: Tensor,
    lengths: Tensor,
    layout: Layout,
    *,
    key: SampleKey,
    draws: int,
    estimate: Estimate = "counts",
    schedule: Schedule = "log_linear",
    starts: Tensor | None = None,
) -> TextBounds:
    """Compute the NELBO of texts, each by itself: it depends neither on the other texts nor on their lengths.

    Args:
        model: Network over token ids, an `ACDiTTransformer`, with the mask as the last id.
        tokens: Token ids (N, L), padded with any ids after the ends of texts.
        lengths: Number of tokens of each text, (N,), above `starts`.
        layout: Layout of (L,).
        key: Key of the random draws.
        draws: Number of draws, D.
        estimate: `counts`, which sums blocks of up to 4 tokens, or `times`, the papers' protocol, which a
            network with time conditioning needs. Blocks of one token are summed without time conditioning. A
            block in which a text ends is summed if its tails are few.
        schedule: Noise schedule of the times.
        starts: Number of given tokens at the beginning of each text, (N,), on which the others are
            conditioned; None = 0.
    """
    size, timed = layout.block_tokens, model.config["time_conditioning"]
    small = not timed and (size == 1 or (estimate == "counts" and size <= EXACT_TOKENS))
    starts = torch.zeros_like(lengths) if starts is None else starts
    every = Texts(tokens, starts, lengths, layout, key)
    groups: dict[tuple[int, int, int, int], list[int]] = defaultdict(list)
    for row, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        whole = length // size  # number of whole blocks
        inside = (max(start - whole * size, 0), length % size) if small else (0, 0)
        groups[start // size, -(-length // size), *inside].append(row)
    values, variances = torch.zeros(2, len(lengths), dtype=torch.float64)
    summed = torch.ones(len(lengths), dtype=torch.bool)
    for (first, stop, start, end), members in groups.items():
        for part in calls(len(members), (stop - first) * size * model.config["vocab_size"]):
            rows, blocks = members[part], range(first, stop)
            if small:
                whole = range(first, stop - (end > 0))
                if whole:
                    values[rows] += _summed(model, every.of(rows, whole))
                if not end:
                    continue
                blocks = range(stop - 1, stop)  # the block in which the texts end
                if _states(start, end, size, model) <= MAX_STATES:
                    values[rows] += _summed_tails(model, every.of(rows, blocks), start, end)
                    continue
            counted = not timed and estimate == "counts"
            drawn = _drawn(model, every.of(rows, blocks), range(draws), None if counted else schedule)
            values[rows] += drawn.mean(1)
            variances[rows] = drawn.var(1) / draws if draws > 1 else torch.nan
            summed[rows] = False
    return TextBounds(values, variances, summed)


def _summed(model: ACDiTTransformer, texts: Texts) -> Tensor:
    """Return the NELBO (N,) of texts that fill whole blocks, as a sum over all sets of masked tokens."""
    masks = all_masks(texts.lengths, texts.layout, texts.starts)
    return nelbo(model, texts.blocks, texts.layout, masks).sum(1).sum(-1)


def _drawn(model: ACDiTTransformer, texts: Texts, draws: range, schedule: Schedule | None) -> Tensor:
    """Return draws (N, D) of the NELBO from times of a schedule, or from counts of masks if it is None."""
    key, lengths, layout, starts = texts.key, texts.lengths, texts.layout, texts.starts
    if schedule is None:
        masks = counted_masks(key, lengths, layout, draws, starts)
    else:
        masks = timed_masks(key, lengths, layout, draws, schedule, starts=starts)
    masks = with_tails(model, texts.blocks, layout, masks, schedule)
    return nelbo(model, texts.blocks, layout, masks).sum(1)


def _states(start: int, end: int, size: int, model: ACDiTTransformer) -> int:
    """Return the number of views that `_summed_tails` evaluates."""
    return (2 ** (end - start) - 1) * model.config["vocab_size"] ** (size - end)


@torch.no_grad()
def _summed_tails(model: ACDiTTransformer, texts: Texts, start: int, end: int) -> Tensor:
    """Return the NELBO (N,) of the last block, in which texts end, as a sum over all orders and tails.

    A state of the sampler is what each position shows: the mask, a token of the tail, or TEXT for a token of
    the text. The sampler goes from state to state, each a view of the block.

    Args:
        model: See `text_nelbo`.
        texts: Texts of which no token before the last block is scored.
        start: Number of given tokens in this block.
        end: Number of tokens of the texts in this block.
    """
    layout, clean, mask = texts.layout, texts.blocks, model.config["vocab_size"] - 1
    target, tail = clean[:, -1], layout.block_tokens - end
    shown = [[TEXT]] * start + [[mask, TEXT]] * (end - start) + [[*range(mask + 1)]] * tail
    states = [state for state in product(*shown) if mask in state[start:end]]
    states.sort(key=lambda state: -state.count(mask))  # the sampler goes through them in this order
    listed = torch.tensor(states, device=clean.device)
    views = torch.where(listed == TEXT, target[:, None], listed)  # (N, states, B)
    logits = torch.cat(
        [
            model(
                views[:, part],
                None,
                layout=layout,
                blocks=(layout.num_blocks - 1,) * len(range(len(states))[part]),
                clean=clean[:, :-1] if layout.num_blocks > 1 else None,
            ).sample
            for part in calls(len(states), len(clean) * (mask + 1) * layout.block_tokens)
        ],
        dim=1,
    )
    log_probabilities = logits[..., :-1].double().log_softmax(-1).cpu()  # (N, states, B, V - 1)
    of_text = log_probabilities.gather(-1, target.cpu()[:, None, :, None].expand(-1, len(states), -1, 1))
    chances: dict[tuple[int, ...], Tensor] = defaultdict(lambda: torch.zeros(len(clean)).double())
    chances[states[0]] += 1  # of the sampler to pass through a state, if it draws the tokens of the text
    total = torch.zeros(len(clean), dtype=torch.float64)
    for row, state in enumerate(states):
        masked = [position for position, value in enumerate(state) if value == mask]
        chance = chances[state] / len(masked)  # of each of these positions to be filled in next
        for position in masked:
            before, after = state[:position], state[position + 1 :]
            if position < end:
                total -= chance * of_text[:, row, position, 0]
                chances[*before, TEXT, *after] += chance
            else:
                drawn = log_probabilities[:, row, position].exp() * chance[:, None]
                for token in range(mask):
                    chances[*before, token, *after] += drawn[:, token]
    return checked(total)


@torch.no_grad()
def with_tails(
    model: ACDiTTransformer, tokens: Tensor, layout: Layout, masks: Masks, schedule: Schedule | None
) -> Masks:
    """Return masks whose views show the tokens that the sampler has filled in after the ends of texts.

    The positions after the end that a draw reveals before its view are filled in one by one, each from the
    network's prediction for what is visible then.

    Args:
        model: See `text_nelbo`.
        tokens: Clean token ids (N, all blocks of the layout, B).
        layout: Layout of the blocks; texts may end inside the last.
        masks: Drawn masks.
        schedule: Noise schedule, if the draws are of times; otherwise None.
    """
    hidden = masks.hidden[:, -1]  # (N, 1, B)
    if not hidden.any():
        return masks
    assert masks.orders is not None and masks.cuts is not None and masks.uniform is not None
    orders, cuts, mask = masks.orders[:, -1], masks.cuts[:, -1], model.config["vocab_size"] - 1
    due = hidden & (orders >= cuts[..., None])  # (N, D, B)
    places = orders.masked_fill(~due, -1.0).argsort(dim=-1, descending=True, stable=True)
    counts = due.sum(-1)  # (N, D)
    busiest = counts.argsort(dim=-1, descending=True, stable=True)  # views (N, D), by falling count
    tails, texts = torch.full(orders.shape, mask), torch.arange(len(tokens))[:, None]
    last, clean = tokens[:, -1].cpu(), tokens[:, :-1] if layout.num_blocks > 1 else None
    cache = None if clean is None else model.new_cache(layout, len(tokens), device=tokens.device)
    for step in range(int(counts.max())):
        active = int((counts > step).sum(-1).max())
        for part in calls(active, len(tokens) * layout.block_tokens * (mask + 1)):
            views = texts, busiest[:, part]  # (N, d)
            place = places[..., step][views]
            level = orders[views].gather(-1, place[..., None])  # (N, d, 1)
            visible = torch.where(orders[views] > level, last[:, None], mask)
            shown = torch.where(hidden, tails[views], visible)  # (N, d, B)
            times = None if schedule is None else TRAIN_STEPS * time_of(level.squeeze(-1), schedule)
            logits = model(
                shown.to(tokens.device),
                None if times is None else times.float().to(tokens.device),
                layout=layout,
                blocks=(layout.num_blocks - 1,) * shown.shape[1],
                clean=clean,
                cache=cache,
            ).sample  # (N, d, B, V)
            clean = None  # cached from now on
            logits = logits[texts, torch.arange(shown.shape[1]), place.to(logits.device)]  # (N, d, V)
            drawn = draw_tokens(logits, masks.uniform[views].gather(-1, place[..., None]).squeeze(-1)).cpu()
            tails[*views, place] = torch.where(counts[views] > step, drawn, tails[*views, place])
    return masks._replace(tails=tails)
