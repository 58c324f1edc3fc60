"""Samplers that reveal tokens in an order: which positions a step fills, and what is refused."""

import math
from typing import Any

import pytest
import torch

from acdit.diffusion.masked_schedulers import AncestralScheduler
from acdit.diffusion.ordered_schedulers import FixedOrderScheduler, LowestEntropyScheduler
from acdit.diffusion.orders import parse_order
from acdit.diffusion.schedulers import masked_scheduler
from acdit.utils.errors import UserError

MASK = 3
CHANCES = torch.tensor([[0.4, 0.3, 0.3], [0.9, 0.05, 0.05], [0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])


def steps_of(scheduler, sample, steps, chances=CHANCES):
    """The positions of a block that each step fills."""
    scheduler.set_timesteps(steps)
    logits = torch.cat((chances.log(), torch.full((len(chances), 1), 9.0)), dim=-1)[None]
    filled = []
    for timestep in scheduler.timesteps:
        before = sample
        sample = scheduler.step(logits, timestep, sample, return_dict=False)[0]
        assert torch.equal(sample[before != MASK], before[before != MASK])
        filled.append((before != sample)[0].nonzero().flatten().tolist())
    assert scheduler.finished(sample)
    return filled


@pytest.mark.parametrize(
    ("positions", "steps", "filled"),
    [
        ("left", 4, [[0], [1], [2], [3]]),
        ("right", 4, [[3], [2], [1], [0]]),
        ([2, 0, 3, 1], 4, [[2], [0], [3], [1]]),
        ("left", 2, [[0, 1], [2, 3]]),
        ("right", 3, [[2, 3], [1], [0]]),
        ([2, 0, 3, 1], 2, [[0, 2], [1, 3]]),
        ("left", 6, [[0], [1], [2], [3], [], []]),
        ("left", 1, [[0, 1, 2, 3]]),
    ],
)
def test_steps_of_fixed_orders(positions, steps, filled):
    scheduler = FixedOrderScheduler(mask_token=MASK, positions=positions)
    assert steps_of(scheduler, torch.full((1, 4), MASK), steps) == filled


def test_given_tokens_count_as_revealed():
    sample = torch.tensor([[0, MASK, 2, MASK]])
    assert steps_of(FixedOrderScheduler(mask_token=MASK, positions="right"), sample, 4) == [[3], [1], [], []]
    assert steps_of(LowestEntropyScheduler(mask_token=MASK), sample, 4) == [[3], [1], [], []]


@pytest.mark.parametrize("options", [{}, {"temperature": 0.0}, {"temperature": 9.0}, {"top_p": 0.1}])
def test_the_lowest_entropy_is_next(options):
    """Of 0, 0.39, 0.69 and 1.09 nats, whatever the temperature; a probability of 0 has none."""
    scheduler = LowestEntropyScheduler(mask_token=MASK, **options)
    assert steps_of(scheduler, torch.full((1, 4), MASK), 4) == [[3], [1], [2], [0]]
    assert steps_of(scheduler, torch.full((1, 4), MASK), 2) == [[1, 3], [0, 2]]


def test_equal_entropies_go_from_left_to_right():
    """Also where they differ by rounding."""
    chances = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5], [0.5, 0.2, 0.3]])
    chances = chances * (1 + torch.tensor([3e-6, 2e-6, 1e-6, 0.0])[:, None] * torch.tensor([1.0, -1.0, 0.0]))
    scheduler = LowestEntropyScheduler(mask_token=MASK)
    assert steps_of(scheduler, torch.full((1, 4), MASK), 4, chances) == [[0], [1], [2], [3]]
    assert steps_of(scheduler, torch.full((1, 4), MASK), 2, chances) == [[0, 1], [2, 3]]


def test_the_choice_is_made_before_the_draw():
    """2,000 samples of one prediction fill the same position, with all tokens that it allows."""
    scheduler = LowestEntropyScheduler(mask_token=MASK)
    scheduler.set_timesteps(2)
    chances = torch.tensor([[0.34, 0.33, 0.33], [0.5, 0.25, 0.25]])
    logits = torch.cat((chances.log(), torch.full((2, 1), 9.0)), dim=-1).expand(2000, -1, -1)
    torch.manual_seed(0)
    filled = scheduler.step(logits, 1000.0, torch.full((2000, 2), MASK), return_dict=False)[0]
    assert (filled[:, 0] == MASK).all()
    assert torch.bincount(filled[:, 1], minlength=3).tolist() == pytest.approx([1000, 500, 500], abs=100)


@pytest.mark.parametrize(
    ("positions", "words"),
    [
        ("random", "left, right or a list of positions, not 'random'"),
        ("lowest-entropy", "left, right or a list"),
        ("lift", "did you mean left"),
        ([0, 2], "every position of a block once"),
        ([1, 1, 0], "every position of a block once"),
        ([], "every position of a block once"),
        ([-1, 0], "every position of a block once"),
        ([0, math.nan], "a list of positions"),
        (None, "a list of positions"),
    ],
)
def test_positions_that_are_no_order(positions, words):
    with pytest.raises(UserError, match=words):
        FixedOrderScheduler(mask_token=MASK, positions=positions)


def test_blocks_of_another_size_are_refused():
    scheduler = FixedOrderScheduler(mask_token=MASK, positions=[1, 0])
    scheduler.set_timesteps(2)
    with pytest.raises(UserError, match="order 1,0 is for blocks of 2 tokens, not 4"):
        scheduler.step(torch.zeros(1, 4, MASK + 1), 1000.0, torch.full((1, 4), MASK))


def test_predictions_that_are_no_numbers_are_refused():
    scheduler = LowestEntropyScheduler(mask_token=MASK)
    scheduler.set_timesteps(1)
    logits = torch.zeros(1, 4, MASK + 1)
    logits[0, 2, 1] = math.nan
    with pytest.raises(UserError, match="output is not finite"):
        scheduler.step(logits, 1000.0, torch.full((1, 4), MASK))


def test_named_schedulers_keep_the_settings_of_another():
    settings = {"mask_token": 7, "schedule": "cosine", "temperature": 0.5, "top_p": 0.25}
    for name, positions in (("left", "left"), ("right", "right"), ([1, 0], [1, 0]), ("lowest-entropy", None)):
        made = masked_scheduler(name, AncestralScheduler(**settings))
        assert {key: made.config[key] for key in settings} == settings
        assert made.config.get("positions") == positions
    with pytest.raises(UserError, match=r"--scheduler must be one of ancestral.*mean lowest-entropy"):
        masked_scheduler("lowest-entopy", AncestralScheduler(**settings), "--scheduler")


def test_saved_positions(tmp_path):
    FixedOrderScheduler(mask_token=MASK, positions=[2, 0, 1]).save_pretrained(tmp_path)
    loaded: Any = FixedOrderScheduler.from_pretrained(tmp_path)
    assert loaded.config["positions"] == [2, 0, 1]


def test_orders_as_they_are_typed():
    assert parse_order("left", "--order") == "left"
    assert parse_order("2,0,1", "--order") == parse_order("[2, 0, 1]", "--order") == [2, 0, 1]
    assert parse_order("0", "--order") == [0]
    for text in ("2,0", "0,a", "leftt", "", "1.5", "-1"):
        with pytest.raises(UserError, match="--order must"):
            parse_order(text, "--order")
