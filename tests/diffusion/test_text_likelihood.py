"""Tokens after the ends of texts: when they are filled in, and what is visible then."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from acdit.diffusion.likelihood import counted_masks, timed_masks
from acdit.diffusion.masked import SCHEDULES
from acdit.diffusion.objective import SampleKey
from acdit.diffusion.text_likelihood import with_tails
from acdit.model.layout import Layout

VOCABULARY, MASK, SIZE, DRAWS = 8, 7, 6, 40


class Clock:
    """A network that predicts the time, in sevenths, or the number of visible tokens if there is no time."""

    def __init__(self):
        self.config, self.seen = {"vocab_size": VOCABULARY}, []

    def __call__(self, noised, timestep, *, layout, blocks, clean=None, cache=None):
        self.seen += noised.flatten(0, 1).tolist()
        visible = (noised != MASK).sum(-1)
        number = visible if timestep is None else (timestep * (VOCABULARY - 1) / 1000).long()
        logits = torch.zeros(*noised.shape, VOCABULARY, dtype=torch.float64)
        logits.scatter_(-1, number[..., None, None].expand(*noised.shape, 1), 99.0)
        return SimpleNamespace(sample=logits)


def tails_of(masks, schedule=None) -> Any:
    clock: Any = Clock()
    tokens = torch.tensor([[[5, 6, *[0] * (SIZE - 2)]]])
    return with_tails(clock, tokens, Layout((SIZE,), (SIZE,)), masks, schedule).tails, clock.seen


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_tails_are_filled_in_at_their_own_times(schedule):
    """A position is filled in when its number is the masked fraction, if that is before the view."""
    masks = timed_masks(
        SampleKey(0, [0], [0]), torch.tensor([2]), Layout((SIZE,), (SIZE,)), range(DRAWS), schedule
    )
    tails, _ = tails_of(masks, schedule)
    assert masks.orders is not None and masks.times is not None
    filled = 0
    for draw, time in enumerate(masks.times[0, 0].tolist()):
        for position in range(2, SIZE):
            number = masks.orders[0, 0, draw, position].item()
            reached = number if schedule == "log_linear" else 2 / math.pi * math.asin(number)
            expected = int(reached * (VOCABULARY - 1)) if reached >= time else MASK
            assert tails[0, draw, position] == expected
            filled += expected != MASK
    assert DRAWS < filled < 3 * DRAWS
    assert (tails[..., :2] == MASK).all()


@pytest.mark.parametrize("starts", [0, 1])
def test_tails_see_what_is_revealed_before_them(starts):
    """Of a text of two tokens, the first of which may be given."""
    masks = counted_masks(
        SampleKey(0, [0], [0]),
        torch.tensor([2]),
        Layout((SIZE,), (SIZE,)),
        range(DRAWS),
        torch.tensor([starts]),
    )
    tails, seen = tails_of(masks)
    assert masks.orders is not None
    expected_views = []
    for draw in range(DRAWS):
        order = masks.orders[0, 0, draw].tolist()
        if starts:
            order[0] = 2.0
        masked = [position for position in range(2) if masks.masked[0, 0, draw, position]]
        following = max(order[position] for position in masked)  # the token of the text that comes next
        shown = [MASK] * SIZE
        for position in sorted(range(SIZE), key=lambda position: -order[position]):
            if order[position] <= following:
                break
            if position >= 2:
                expected_views.append(list(shown))
            visible = sum(token != MASK for token in shown)
            shown[position] = visible if position >= 2 else 5 + position
        assert tails[0, draw, 2:].tolist() == shown[2:]
    assert expected_views and all(view in seen for view in expected_views)
