"""Learning rate over time against the closed forms of Appendix B."""

import math
from typing import Any

import pytest

from acdit.training.config import OptimizerConfig
from acdit.training.schedules import rate_factor


def factors(steps, **config: Any):
    return [rate_factor(step, steps, OptimizerConfig(**config)) for step in range(steps)]


@pytest.mark.parametrize(("steps", "share"), [(100, 0.15), (1000, 0.15), (40, 0.5), (7, 1.0)])
def test_wsd_is_constant_then_decays_as_published(steps, share):
    rates = factors(steps, schedule="wsd", decay_share=share)
    stable = round(steps * (1 - share))
    assert rates[: stable + 1] == [1.0] * (stable + 1)
    for step in range(stable, steps):
        r = (step - stable) / (steps - stable)
        assert rates[step] == pytest.approx(0.5 ** (6 * r), rel=1e-9)
    assert all(after < before for before, after in zip(rates[stable:], rates[stable + 1 :], strict=False))
    assert 1 / 64 < rates[-1] < 1


def test_wsd_of_the_paper_at_some_steps():
    config = OptimizerConfig()  # Appendix B: 1.2M iterations, decay in the last 15%, that is 180K
    known = {0: 1, 500_000: 1, 1_020_000: 1, 1_050_000: 1 / 2, 1_080_000: 1 / 4, 1_170_000: 1 / 32}
    assert {step: rate_factor(step, 1_200_000, config) for step in known} == pytest.approx(known)
    assert rate_factor(1_199_999, 1_200_000, config) == pytest.approx(1 / 64, rel=1e-4)


def test_wsd_without_decay_is_constant():
    assert factors(10, schedule="wsd", decay_share=0.0) == [1.0] * 10


@pytest.mark.parametrize("schedule", ["wsd", "cosine", "constant"])
def test_warm_up_is_linear_and_ends_at_the_peak(schedule):
    rates = factors(100, schedule=schedule, warmup_steps=8)
    assert rates[:8] == pytest.approx([(step + 1) / 8 for step in range(8)])
    assert rates[8] == 1.0
    assert max(rates) == 1.0 and min(rates) > 0


@pytest.mark.parametrize("schedule", ["wsd", "cosine", "constant"])
def test_without_warm_up_the_first_step_has_the_peak(schedule):
    assert factors(20, schedule=schedule)[0] == 1.0


@pytest.mark.parametrize("warmup", [0, 5])
def test_cosine_goes_to_zero_after_the_warm_up(warmup):
    rates = factors(55, schedule="cosine", warmup_steps=warmup)
    length = 55 - warmup
    for step in range(warmup, 55):
        assert rates[step] == pytest.approx(
            math.cos(math.pi * (step - warmup) / (2 * length)) ** 2, abs=1e-12
        )
    assert rates[-1] < 2e-3


def test_constant():
    assert factors(9, schedule="constant") == [1.0] * 9


@pytest.mark.parametrize("schedule", ["wsd", "cosine", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_runs(schedule, steps):
    for warmup in (0, 1, 5):
        assert all(0 < rate <= 1 for rate in factors(steps, schedule=schedule, warmup_steps=warmup))
