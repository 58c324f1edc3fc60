"""Counted masks in training: their mean is the NELBO, and they vary less than independent masks."""

from itertools import permutations
from typing import Any

import pytest
import torch

from acdit.diffusion.masked import MaskedObjective
from acdit.diffusion.objective import SampleKey
from acdit.model.layout import Layout
from tests.markov import MASK, draw, exact_chain, negative_log_likelihood, posterior
from tests.tiny import tiny_model

SIZE, WRONG = 3, 0.7
NUMBERS = 6  # a multiple of 1, 2 and 3, so that every count of a shorter block is met equally often
ORDERS = list(permutations(range(SIZE)))


class EveryDraw(MaskedObjective):
    """The objective of which draw 0, 1, ... are all numbers of masks and orders of tokens, once each."""

    def _draw(self, data, chosen, draws, key):
        draws = range(NUMBERS * len(ORDERS))
        uniform = torch.tensor([(draw % NUMBERS + 0.5) / NUMBERS for draw in draws], dtype=torch.float64)
        orders = torch.tensor([ORDERS[draw // NUMBERS] for draw in draws]) / SIZE
        shape = len(data), len(chosen)
        views = uniform.expand(*shape, -1).flatten(1, 2)
        tokens = orders.expand(*shape, -1, -1).flatten(1, 2)
        return views, tokens, torch.zeros_like(views, dtype=torch.bool)


def brute_force(text, wrong):
    """The mean over all orders of the sum of -log p of tokens (T, B), each given those before it."""
    total, past = 0.0, None
    for block in text.tolist():
        real = [position for position, token in enumerate(block) if token != MASK]
        sums = []
        for order in permutations(real):
            shown, nats = [MASK] * SIZE, 0.0
            for position in order:
                logits = posterior(tuple(shown), past)[position].log()
                logits[0] += wrong
                nats -= float(logits.log_softmax(0)[block[position]])
                shown[position] = block[position]
            sums.append(nats)
        total += sum(sums) / len(sums)
        past = block[-1]
    return total


def key(count, seed=0, step=0):
    return SampleKey(seed, [0] * count, range(count), step, range(count), count)


def text_network(length, timed=False):
    return tiny_model(
        in_channels=None,
        axis_lengths=(length,),
        vocab_size=MASK + 1,
        num_classes=None,
        time_conditioning=timed,
        dtype=torch.float64,
    )


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_the_mean_over_all_draws_is_the_bound(padding):
    layout = Layout((2 * SIZE,), (SIZE,))
    texts = draw(4, 2 * SIZE)
    if padding:
        texts[:, -padding:] = MASK
    cut = texts.unflatten(1, (-1, SIZE))
    losses = EveryDraw(MASK).loss(
        exact_chain(WRONG), cut, layout=layout, key=key(4), draws=range(NUMBERS * len(ORDERS))
    )
    expected = [brute_force(text, WRONG) for text in cut]
    tokens = 2 * SIZE - padding
    assert losses.per_sample.tolist() == pytest.approx([bound / tokens for bound in expected], rel=1e-9)
    assert losses.mean.item() == pytest.approx(sum(expected) / cut.numel(), rel=1e-9)


def test_the_mean_of_an_exact_network_is_the_likelihood():
    layout, texts = Layout((2 * SIZE,), (SIZE,)), draw(4, 2 * SIZE)
    losses = EveryDraw(MASK).loss(
        exact_chain(), texts.unflatten(1, (-1, SIZE)), layout=layout, key=key(4), draws=range(36)
    )
    expected = negative_log_likelihood(texts) / texts.shape[1]
    assert torch.allclose(losses.per_sample, expected, rtol=1e-9, atol=0)


def test_a_block_of_one_token_is_autoregression_whatever_is_drawn():
    layout, texts = Layout((8,), (1,)), draw(4, 8)
    objective, cut = MaskedObjective(MASK), texts[..., None]
    means = {
        objective.loss(exact_chain(WRONG), cut, layout=layout, key=key(4, seed)).mean.item()
        for seed in range(5)
    }
    expected = 0.0
    for text in texts.tolist():
        for position, token in enumerate(text):
            logits = posterior((MASK,), text[position - 1] if position else None)[0].log()
            logits[0] += WRONG
            expected -= float(logits.log_softmax(0)[token])
    assert [*means] == pytest.approx([expected / texts.numel()], rel=1e-9)


def test_numbers_are_spread_over_blocks_and_batch():
    """Of 2 texts of 4 blocks of 4 tokens, each number is drawn twice; timesteps are masked fractions."""
    layout, texts, asked = Layout((16,), (4,)), draw(2, 16).unflatten(1, (-1, 4)), []
    chain = exact_chain()

    def network(noised, timestep, **given):
        asked.append((noised, timestep))
        return chain(noised, timestep, **given)

    losses = MaskedObjective(MASK).loss(network, texts, layout=layout, key=key(2))  # pyright: ignore[reportArgumentType]
    ((noised, timestep),) = asked
    numbers = (noised == MASK).sum(-1)
    assert timestep is None and sorted(numbers.flatten().tolist()) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert torch.equal(losses.timesteps, 250.0 * numbers)


def test_a_block_of_padding_has_no_loss():
    layout, texts = Layout((8,), (4,)), draw(2, 8)
    texts[1, 3:] = MASK
    losses = MaskedObjective(MASK).loss(
        text_network(8), texts.unflatten(1, (-1, 4)), layout=layout, key=key(2), draws=range(8)
    )
    assert losses.fractions is not None and losses.fractions[1].tolist() == [0.75] * 8 + [0.0] * 8
    assert (losses.per_view[1, 8:] == 0).all() and losses.per_view.isfinite().all()
    assert sorted(set(losses.timesteps[1, :8].tolist())) == pytest.approx([1000 / 3, 2000 / 3, 1000])


def gradient_variance(masks, size, network, texts, seeds=48):
    """The variance of the gradient of all weights over draws, divided by the squared norm of its mean."""
    layout = Layout((16,), (size,))
    gradients = []
    for seed in range(seeds):
        losses = MaskedObjective(MASK, masks=masks).loss(
            network, texts.unflatten(1, (-1, size)), layout=layout, key=key(len(texts), seed)
        )
        parts = torch.autograd.grad(losses.mean, list(network.parameters()), allow_unused=True)
        gradients.append(torch.cat([part.flatten() for part in parts if part is not None]))
    stacked = torch.stack(gradients)
    return (stacked.var(0).sum() / stacked.mean(0).square().sum()).item()


def test_the_gradient_varies_less_than_with_independent_masks():
    network, texts = text_network(16), draw(2, 16)
    counted, independent = (gradient_variance(way, 4, network, texts) for way in ("counted", "independent"))
    assert 0 < counted < 0.7 * independent
    assert gradient_variance("counted", 1, network, texts, seeds=3) < 1e-20


def test_a_sample_does_not_depend_on_the_others():
    """A rank that has one of four texts draws what all four together draw for it."""
    layout, texts = Layout((16,), (4,)), draw(4, 16).unflatten(1, (-1, 4))
    objective, chain = MaskedObjective(MASK), exact_chain(WRONG)
    together = objective.loss(chain, texts, layout=layout, key=key(4, step=5), draws=range(2))
    alone = objective.loss(
        chain, texts[2:3], layout=layout, key=SampleKey(0, [0], [2], 5, [2], 4), draws=range(2)
    )
    assert torch.equal(together.per_view[2:3], alone.per_view)
    assert torch.equal(together.timesteps[2:3], alone.timesteps)


def test_what_is_refused():
    with pytest.raises(ValueError, match="masks must be one of counted, independent, not 'even'"):
        MaskedObjective(MASK, masks="even")  # pyright: ignore[reportArgumentType]
    of_times: tuple[dict[str, Any], ...] = ({"schedule": "cosine"}, {"times": (0.3, 0.8)})
    for given in of_times:
        with pytest.raises(ValueError, match="schedule and times are for masks='independent'"):
            MaskedObjective(MASK, **given)
        MaskedObjective(MASK, masks="independent", **given)
    with pytest.raises(ValueError, match="timestep must have one value per view"):
        MaskedObjective(MASK).loss(
            text_network(16, timed=True),
            draw(2, 16).unflatten(1, (-1, 4)),
            layout=Layout((16,), (4,)),
            key=key(2),
        )
