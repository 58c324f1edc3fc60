"""Samplers of masked diffusion against the laws of their samples, known in closed form."""

import math
from itertools import product
from typing import Any

import pytest
import torch

from acdit.diffusion.generate import generate
from acdit.diffusion.masked_schedulers import AncestralScheduler, ConfidenceScheduler, FirstHittingScheduler
from acdit.diffusion.ordered_schedulers import FixedOrderScheduler, LowestEntropyScheduler
from acdit.model.layout import Layout
from acdit.utils.errors import UserError
from tests.markov import MASK, STATES, exact_chain, negative_log_likelihood, posterior, sequences
from tests.tiny import tiny_model


def sources(count, first=0):
    return [torch.Generator().manual_seed(first + row) for row in range(count)]


def sampled(chain, scheduler, length, size, count, steps, given=None):
    layout = Layout((length,), (size,))
    noise = torch.full((count, length), MASK) if given is None else given
    blocks = generate(
        chain,
        layout,
        noise.unflatten(1, (-1, size)),
        scheduler=scheduler,
        steps=steps,
        generators=sources(count),
    )
    return list(blocks)


def joined(blocks):
    return torch.cat([block.sample for block in blocks], dim=1)


def stepped(scheduler, *arguments):
    return scheduler.step(*arguments, return_dict=False)[0]


def frequencies(tokens):
    places = STATES ** torch.arange(tokens.shape[1] - 1, -1, -1)
    return torch.bincount((tokens * places).sum(1), minlength=STATES ** tokens.shape[1])


def chi_square(tokens, law):
    """Of sequences (N, L) against probabilities (STATES ** L,), over its standard deviation: near 0.

    Rare sequences, of fewer than five each, count as one.
    """
    found, expected = frequencies(tokens).double(), law * len(tokens)
    rare = expected < 5
    if rare.any():
        found, expected = (torch.cat((of[~rare], of[rare].sum()[None])) for of in (found, expected))
    statistic = ((found - expected).square() / expected).sum().item()
    degrees = len(expected) - 1
    return (statistic - degrees) / math.sqrt(2 * degrees)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_first_hitting_samples_are_the_chain_at_every_block_size(size):
    chain = exact_chain()
    blocks = sampled(chain, FirstHittingScheduler(mask_token=MASK), 4, size, 1500, steps=size)
    law = (-negative_log_likelihood(sequences(4))).exp()
    assert abs(chi_square(joined(blocks), law)) < 3
    assert [block.evaluations for block in blocks] == [size] * (4 // size)  # one for each token


def test_first_hitting_fills_each_place_as_often_as_any_other():
    scheduler, count = FirstHittingScheduler(mask_token=MASK), 3000
    scheduler.set_timesteps(4)
    logits, sample = torch.zeros(count, 4, STATES + 1), torch.tensor([[MASK, 0, MASK, MASK]] * count)
    filled = stepped(scheduler, logits, scheduler.timesteps[1], sample, sources(count))
    times = (filled != sample).sum(0)
    assert times.sum() == count and times[1] == 0
    assert ((times[[0, 2, 3]] - count / 3).square() / (count / 3)).sum() < 13.8  # 2 degrees, p = 0.001


def ancestral_law(size, steps):
    """Of one block in K equal steps of the log-linear schedule: each token is filled in one of them, each
    equally likely, with the others of that step unseen."""
    law = torch.zeros(STATES**size, dtype=torch.float64)
    for times in product(range(steps), repeat=size):
        for place, tokens in enumerate(sequences(size).tolist()):
            probability = steps**-size
            for step in range(steps):
                seen = [token if at < step else MASK for token, at in zip(tokens, times, strict=True)]
                chances = posterior(tuple(seen), None)
                for token, at, chance in zip(tokens, times, chances, strict=True):
                    probability *= chance[token].item() if at == step else 1.0
            law[place] += probability
    return law


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_ancestral_samples_have_the_law_of_their_steps(steps):
    tokens = joined(sampled(exact_chain(), AncestralScheduler(mask_token=MASK), 2, 2, 2000, steps))
    assert abs(chi_square(tokens, ancestral_law(2, steps))) < 3
    if steps == 1:  # the test can tell: the chain's own law is another
        assert chi_square(tokens, (-negative_log_likelihood(sequences(2))).exp()) > 10


def test_the_bias_of_ancestral_samples_falls_with_their_steps():
    """As 1/K: two tokens share a step with that probability."""
    exact = (-negative_log_likelihood(sequences(2))).exp()
    biases = [(ancestral_law(2, steps) - exact).abs().sum().item() * steps for steps in (1, 2, 4, 8)]
    assert biases[0] > 0.1
    assert biases == pytest.approx([biases[0]] * 4, rel=1e-9)


@pytest.mark.parametrize("schedule", ["log_linear", "cosine"])
def test_ancestral_steps_fill_the_share_that_the_schedule_says(schedule):
    """Of 20,000 masked tokens, after each of four steps."""
    scheduler = AncestralScheduler(mask_token=MASK, schedule=schedule)
    scheduler.set_timesteps(4)
    sample, logits = torch.full((1, 20000), MASK), torch.zeros(1, 20000, STATES + 1)
    left = {"log_linear": (0.75, 0.5, 0.25, 0.0), "cosine": [math.sin(math.pi / 8 * k) for k in (3, 2, 1, 0)]}
    for timestep, share in zip(scheduler.timesteps, left[schedule], strict=True):
        sample = stepped(scheduler, logits, timestep, sample, sources(1))
        assert (sample == MASK).double().mean().item() == pytest.approx(share, abs=0.015)
    assert scheduler.finished(sample)


def test_confidence_fills_all_that_is_sure_and_at_least_what_is_due():
    scheduler = ConfidenceScheduler(mask_token=MASK, temperature=0.0, threshold=0.8)
    scheduler.set_timesteps(4)
    chances = torch.tensor([[0.9, 0.05, 0.05], [0.4, 0.3, 0.3], [0.1, 0.85, 0.05], [0.2, 0.3, 0.5]])
    unsure = torch.tensor([[0.4, 0.3, 0.3], [0.4, 0.35, 0.25], [0.3, 0.3, 0.4], [0.1, 0.3, 0.6]])
    logits = torch.stack((chances, unsure)).log()
    logits = torch.cat((logits, torch.full((2, 4, 1), 9.0)), dim=-1)  # the mask's, largest of all
    sample = torch.full((2, 4), MASK)
    filled = stepped(scheduler, logits, scheduler.timesteps[0], sample)
    assert filled.tolist() == [[0, MASK, 1, MASK], [MASK, MASK, MASK, 2]]
    filled = stepped(scheduler, logits, scheduler.timesteps[3], filled)
    assert filled.tolist() == [[0, 0, 1, 2], [0, 0, 2, 2]]


def test_confidence_takes_fewer_evaluations_where_the_network_is_sure():
    """A chain given its first token is never surer than 0.7, so a lower threshold fills in one go."""
    unsure, sure = (
        sampled(exact_chain(), ConfidenceScheduler(mask_token=MASK, threshold=threshold), 4, 4, 2, steps=4)
        for threshold in (1.0, 0.0)
    )
    assert [block.evaluations for block in (*unsure, *sure)] == [4, 1]


def test_temperature_and_top_p():
    """Frequencies of 20,000 draws from one distribution."""
    chances = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    logits = torch.cat((chances.log(), torch.tensor([9.0], dtype=torch.float64))).expand(1, 20000, -1)

    def drawn(**options):
        scheduler = FirstHittingScheduler(mask_token=MASK, **options)
        scheduler.set_timesteps(1)
        sample = torch.full((1, 20000), MASK)
        filled = stepped(scheduler, logits, scheduler.timesteps[0], sample, sources(1))
        return (torch.bincount(filled[0], minlength=STATES) / 20000).tolist()

    assert drawn() == pytest.approx([0.5, 0.3, 0.2], abs=0.01)
    squared = chances.square() / chances.square().sum()
    assert drawn(temperature=0.5) == pytest.approx(squared.tolist(), abs=0.01)
    assert drawn(temperature=0.0) == drawn(temperature=1e-320) == [1.0, 0.0, 0.0]
    assert drawn(top_p=0.8) == pytest.approx([0.625, 0.375, 0.0], abs=0.01)
    assert drawn(top_p=0.81) == pytest.approx([0.5, 0.3, 0.2], abs=0.01)
    assert drawn(top_p=0.4) == [1.0, 0.0, 0.0]


def test_only_logits_of_tokens_that_are_filled_are_read(monkeypatch):
    """In one call for all rows, of which one has no masks left; none is read to choose the places."""
    shapes = []
    monkeypatch.setattr(
        "acdit.diffusion.masked_schedulers.invert",
        lambda probabilities, uniform: (shapes.append(probabilities.shape), torch.zeros(len(uniform)).long())[
            1
        ],
    )
    scheduler = FirstHittingScheduler(mask_token=MASK)
    scheduler.set_timesteps(4)
    sample = torch.full((3, 4), MASK)
    sample[1] = 0
    filled = stepped(scheduler, torch.zeros(3, 4, MASK + 1), scheduler.timesteps[0], sample, sources(3))
    assert shapes == [(2, MASK)] and (filled == MASK).sum(1).tolist() == [3, 0, 3]


def text_model(dtype=torch.float64):
    return tiny_model(
        in_channels=None,
        axis_lengths=(16,),
        vocab_size=20,
        num_classes=None,
        time_conditioning=False,
        dtype=dtype,
    )


SCHEDULERS = [
    *(AncestralScheduler, FirstHittingScheduler, ConfidenceScheduler),
    *(FixedOrderScheduler, LowestEntropyScheduler),
]


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("size", [1, 4, 16])
def test_a_sample_does_not_depend_on_its_neighbours(kind, size):
    """Prompts of unequal lengths and fixed tokens inside blocks, in one batch and each alone (float64)."""
    model, layout, source = text_model(), Layout((16,), (size,)), torch.Generator().manual_seed(5)
    tokens = torch.randint(19, (4, 16), generator=source)
    given = torch.full((4, 16), 19)
    for row, length in enumerate((0, 3, 9, 16)):
        given[row, :length] = tokens[row, :length]
    given[0, 6], given[1, 13:15] = 7, 2  # infilling

    def run(rows):
        blocks = generate(
            model,
            layout,
            given[rows].unflatten(1, (-1, size)),
            scheduler=kind(mask_token=19),
            steps=size,
            generators=[sources(4)[row] for row in rows],
        )
        return joined(list(blocks))

    together = run([0, 1, 2, 3])
    assert (together != 19).all()
    assert torch.equal(together[given != 19], given[given != 19])
    for row in range(4):
        assert torch.equal(run([row])[0], together[row])
    assert len({tuple(row) for row in together.tolist()}) == 4


def test_blocks_that_are_given_are_not_computed():
    """The first that has masks takes them in as its clean past."""
    chain = exact_chain()
    given = torch.tensor([[0, 1, 2, 0, MASK, MASK]])
    blocks = sampled(chain, FirstHittingScheduler(mask_token=MASK), 6, 2, 1, 2, given)
    assert [block.evaluations for block in blocks] == [0, 0, 2]
    assert chain.calls == [(2,), (2,)]
    assert joined(blocks)[0, :4].tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("size", [1, 4])
def test_cached_logits_equal_teacher_forced_ones(size):
    """At the first step of every block, of tokens that the sampler drew (float64)."""
    model, layout = text_model(), Layout((16,), (size,))
    seen = []

    def keep(network, arguments, named, answer):
        seen.append((arguments[0], named["blocks"], answer.sample))

    noise = torch.full((2, 16 // size, size), 19)
    hook = model.register_forward_hook(keep, with_kwargs=True)
    blocks = list(generate(model, layout, noise, scheduler=FirstHittingScheduler(mask_token=19), steps=size))
    hook.remove()
    assert len(seen) == 16
    clean = joined(blocks).unflatten(1, (-1, size))
    for noised, places, logits in seen:
        past = clean[:, : places[0]] if places[0] else None
        with torch.no_grad():
            forced = model(noised, layout=layout, blocks=places, clean=past)
        assert torch.allclose(logits, forced.sample, rtol=1e-9, atol=1e-12)


def test_what_is_refused():
    cases: list[tuple[dict[str, Any], str]] = [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"threshold": 1.5}, "threshold"),
        ({"temperature": math.nan}, "temperature must be a finite number, not nan"),
        ({"temperature": math.inf}, "temperature must be a finite number, not inf"),
        ({"temperature": "hot"}, "temperature must be a finite number, not hot"),
        ({"top_p": math.nan}, "top_p must be a finite number"),
        ({"threshold": math.nan}, "threshold must be a finite number"),
        ({"schedule": "linear"}, "schedule must be one of log_linear, cosine, not 'linear'"),
    ]
    for options, words in cases:
        with pytest.raises(ValueError, match=words):
            ConfidenceScheduler(mask_token=MASK, **options)
    with pytest.raises(ValueError, match="num_inference_steps must be positive"):
        FirstHittingScheduler(mask_token=MASK).set_timesteps(0)
    with pytest.raises(ValueError, match="mask_token must be the last of the 5 tokens, 4, not 3"):
        FirstHittingScheduler(mask_token=MASK).step(torch.zeros(1, 2, 5), 1000.0, torch.zeros(1, 2).long())
    scheduler = FirstHittingScheduler(mask_token=MASK)
    scheduler.set_timesteps(1)
    broken = torch.full((1, 2, MASK + 1), math.nan)
    with pytest.raises(UserError, match="output is not finite"):
        scheduler.step(broken, scheduler.timesteps[0], torch.full((1, 2), MASK))


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_saved_and_loaded(kind, tmp_path):
    kind(mask_token=19, top_p=0.5).save_pretrained(tmp_path)
    loaded = kind.from_pretrained(tmp_path)
    assert loaded.config["mask_token"] == 19 and loaded.config["top_p"] == 0.5
