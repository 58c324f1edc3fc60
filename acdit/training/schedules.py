"""Learning rate schedules as factors of the peak rate: pure functions of the step."""

import math

from .config import OptimizerConfig


def rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Return the factor of the peak learning rate at a step, 0 <= step < steps.

    `wsd` decays over the last `decay_share` of the steps as published: 0.5 ** (6 r), with r from 0 to 1
    (Appendix B).
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "wsd":
        decay_steps = config.decay_share * steps
        return 0.5 ** (6 * max(0.0, step - (steps - decay_steps)) / decay_steps) if decay_steps else 1.0
    if config.schedule == "cosine":
        progress = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0
