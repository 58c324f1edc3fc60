"""Masked diffusion of a Markov chain whose likelihood is known in closed form, and of tiny networks."""

import math

import pytest
import torch

from acdit.diffusion.likelihood import all_masks, counted_masks, nelbo, timed_masks
from acdit.diffusion.masked import SCHEDULES, MaskedObjective, loss_weight, masked_fraction, strata
from acdit.diffusion.objective import SampleKey
from acdit.model.layout import Layout
from tests.markov import MASK, STATES, draw, exact_chain, negative_log_likelihood
from tests.tiny import tiny_model

LENGTH = 8
SIZES = (1, 2, 4, 8)


def blocks(size, count=6):
    layout = Layout((LENGTH,), (size,))
    tokens = draw(count, LENGTH)
    return layout, tokens, tokens.unflatten(1, (-1, size))


def key(count, seed=0, step=0):
    return SampleKey(seed, [0] * count, range(count), step, range(count), count)


def whole(cut):
    return torch.full((len(cut),), LENGTH)


@pytest.mark.parametrize("size", SIZES)
def test_exact_posterior_has_the_exact_likelihood_at_every_block_size(size):
    layout, tokens, cut = blocks(size)
    found = nelbo(exact_chain(), cut, layout, all_masks(whole(cut), layout)).sum((1, 2))
    assert torch.allclose(found, negative_log_likelihood(tokens), rtol=1e-9, atol=0)


@pytest.mark.parametrize("size", SIZES)
def test_a_wrong_network_has_a_greater_bound(size):
    """On the mean over the chain: over all sequences, weighed by their probability."""
    layout = Layout((LENGTH,), (size,))
    tokens = draw(40, LENGTH, seed=1)
    cut = tokens.unflatten(1, (-1, size))
    found = nelbo(exact_chain(wrong=0.7), cut, layout, all_masks(whole(cut), layout)).sum((1, 2)).mean()
    assert found > negative_log_likelihood(tokens).mean() + 0.1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", ["all", "counts", "times"])
def test_texts_that_end_inside_a_block(size, way):
    """What lies behind an end is neither scored nor seen: the likelihood is that of what lies before it."""
    layout, tokens, _ = blocks(size, count=2 * LENGTH)
    lengths = torch.arange(2 * LENGTH) // 2 + 1
    strange = torch.where(torch.arange(LENGTH) < lengths[:, None], tokens, 0)  # behind the ends anything
    cut, sources = strange.unflatten(1, (-1, size)), key(2 * LENGTH)
    expected = torch.stack(
        [negative_log_likelihood(row[None, :length])[0] for row, length in zip(tokens, lengths, strict=True)]
    )
    if way == "all":
        found = nelbo(exact_chain(), cut, layout, all_masks(lengths, layout)).sum((1, 2))
        assert torch.allclose(found, expected, rtol=1e-9, atol=0)
        return
    if way == "counts":
        masks = counted_masks(sources, lengths, layout, range(60))
    else:
        masks = timed_masks(sources, lengths, layout, range(60), low=1e-5)
    found = nelbo(exact_chain(), cut, layout, masks).sum((0, 1))  # of each draw
    error = found.std().item() / math.sqrt(len(found)) + 1e-9
    assert abs(found.mean().item() - expected.sum().item()) < 4 * error


def test_blocks_of_one_token_take_one_pass():
    """The value is the likelihood, and each token is asked for once."""
    layout, tokens, cut = blocks(1)
    chain = exact_chain()
    masks = counted_masks(key(len(cut)), whole(cut), layout, range(1))
    found = nelbo(chain, cut, layout, masks).sum((1, 2))
    assert torch.allclose(found, negative_log_likelihood(tokens), rtol=1e-9, atol=0)
    assert chain.calls == [tuple(range(LENGTH))]


@pytest.mark.parametrize("size", [2, 8])
@pytest.mark.parametrize("way", ["counts", "log_linear", "cosine"])
def test_estimates_are_unbiased(size, way):
    """Of a wrong network, of whose every draw differs: within four standard errors of the exact sum."""
    layout, _, cut = blocks(size, count=8)
    chain, draws = exact_chain(wrong=0.7), range(400)
    if way == "counts":
        masks = counted_masks(key(len(cut)), whole(cut), layout, draws)
    else:
        masks = timed_masks(key(len(cut)), whole(cut), layout, draws, way, low=1e-5)
    exact = nelbo(chain, cut, layout, all_masks(whole(cut), layout)).sum().item()
    found = nelbo(chain, cut, layout, masks).sum((0, 1))  # of each draw
    error = found.std().item() / math.sqrt(len(draws))
    assert 0 < error < 0.05 * exact
    assert abs(found.mean().item() - exact) < 4 * error


@pytest.mark.parametrize("way", ["counted", *SCHEDULES])
def test_the_objective_estimates_the_bound(way):
    layout, _, cut = blocks(4, count=8)
    chain = exact_chain(wrong=0.7)
    objective = MaskedObjective(MASK)
    if way != "counted":
        objective = MaskedObjective(MASK, way, times=(1e-5, 1.0), masks="independent")
    exact = nelbo(chain, cut, layout, all_masks(whole(cut), layout)).sum().item() / cut.numel()
    means = torch.stack(
        [
            objective.loss(
                chain, cut, layout=layout, key=key(len(cut), step=step), draws=range(8 * step, 8 * step + 8)
            ).mean
            for step in range(40)
        ]
    )
    error = means.std().item() / math.sqrt(len(means))
    assert 0 < error < 0.05 * exact
    assert abs(means.mean().item() - exact) < 4 * error


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_weights_are_the_derivative_of_alpha(schedule):
    times = torch.linspace(0.01, 0.99, 50, dtype=torch.float64, requires_grad=True)
    masked = masked_fraction(times, schedule)
    (slope,) = torch.autograd.grad(masked.sum(), times)
    assert torch.allclose(loss_weight(times, schedule), slope / masked, rtol=1e-9)
    ends = masked_fraction(torch.tensor([0.0, 1.0], dtype=torch.float64), schedule)
    assert ends.tolist() == [0.0, 1.0]


def test_times_are_spread_over_blocks_and_batch():
    """Every one of the finest parts is taken once, and none depends on the other samples."""
    whole = key(4, step=3)
    shares = torch.stack(
        [strata(whole, row, 0, 5, torch.Generator().manual_seed(row)) for row in range(4)]
    )  # (4, 5)
    assert sorted((shares * 20).long().flatten().tolist()) == list(range(20))
    alone = SampleKey(0, [0], [2], 3, [2], 4)
    assert torch.equal(strata(alone, 0, 0, 5, torch.Generator().manual_seed(2)), shares[2])


def test_every_block_and_place_meets_all_times():
    """Over steps the number of one block of one place in the batch is uniform."""
    found = torch.stack(
        [strata(key(4, step=step), 1, 0, 3, torch.Generator().manual_seed(step)) for step in range(4000)]
    )[:, 2]
    counts = torch.histc(found, 12, 0, 1)
    assert ((counts - 4000 / 12).square() / (4000 / 12)).sum() < 31.3  # chi-square, 11 degrees, p = 0.001


def test_the_mask_is_never_predicted_and_unmasked_tokens_cost_nothing():
    """The loss does not change with the mask's logit, and neither does its gradient reach other places."""
    layout = Layout((LENGTH,), (4,))
    tokens = draw(2, LENGTH).unflatten(1, (-1, 4))
    model = tiny_model(
        in_channels=None,
        axis_lengths=(LENGTH,),
        vocab_size=STATES + 1,
        num_classes=None,
        time_conditioning=False,
        dtype=torch.float64,
    )
    seen = {}

    def asked(noised, *args, **kwargs):
        answer = model(noised, *args, **kwargs)
        answer.sample.retain_grad()
        seen.update(noised=noised, logits=answer.sample)
        return answer

    losses = MaskedObjective(MASK).loss(asked, tokens, layout=layout, key=key(2))
    losses.mean.backward()
    grad, masked = seen["logits"].grad, seen["noised"] == MASK
    assert 0 < masked.sum() < masked.numel()
    assert torch.equal(seen["noised"][~masked], tokens[~masked])
    assert (grad[~masked] == 0).all() and (grad[..., MASK] == 0).all()
    assert (grad[masked][:, :MASK] != 0).all()


@pytest.mark.parametrize("time", [0.3, 1.0])
def test_a_single_time(time):
    """All views have it; at time 1 all tokens are masked."""
    layout, _, cut = blocks(4)
    losses = MaskedObjective(MASK, times=(time, time), masks="independent").loss(
        exact_chain(), cut, layout=layout, key=key(len(cut)), draws=range(4)
    )
    assert (losses.timesteps == torch.tensor(1000 * time)).all()
    masks = timed_masks(key(len(cut)), whole(cut), layout, range(4), low=1.0)
    alone = nelbo(exact_chain(), cut, layout, masks).sum(1).mean() / LENGTH
    assert time < 1 or losses.mean.item() == pytest.approx(alone.item(), rel=1e-5)


def test_what_is_refused():
    for times in ((0.5, 0.4), (-0.1, 1.0), (0.0, 1.1), (0.0, 0.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="times must be a low and a high value between 0 and 1"):
            MaskedObjective(MASK, times=times, masks="independent")
    with pytest.raises(ValueError, match="times must include some below 1"):
        MaskedObjective(MASK, "cosine", times=(1.0, 1.0))
    with pytest.raises(ValueError, match="schedule must be one of"):
        MaskedObjective(MASK, "linear")  # pyright: ignore[reportArgumentType]
    layout, _, cut = blocks(2)
    with pytest.raises(ValueError, match="mask_token must be the last of the 4 tokens, 3, not 2"):
        MaskedObjective(2).loss(exact_chain(), cut, layout=layout, key=key(len(cut)))
