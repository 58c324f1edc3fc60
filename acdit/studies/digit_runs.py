"""Training runs of the studies on digits: one base recipe, so that the studies share its runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.layout import Layout, dims, parse_dims
from .run_store import RunSpec

CHECKPOINTS = 10  # of each run, evenly spaced, so that quality over the training can be measured
DECAY = 0.2  # fraction of the steps in which the learning rate decays


@dataclass(frozen=True)
class DigitBudget:
    """Data, network and sizes of the studies on digits; arms change some of the values of a run.

    Attributes:
        name: name of the budget.
        recipe: recipe of the runs, and name of the data.
        side: side of an image in pixels.
        patch: side of a token in pixels.
        block: tokens of a block of the reference.
        counts: numbers of blocks that are compared, as far as an image has as many tokens.
        network: size of the network, see `ModelConfig`.
        smaller: size of a smaller network.
        larger: size of a larger network.
        steps: training steps, a multiple of `CHECKPOINTS`; all arms train for as many unless they say so.
        batch: images per training step.
        optimizer: values of the section `optimizer`.
        samples: digits that are drawn for each measurement.
        sampling_steps: solver steps for each block.
        guidance: scale of classifier-free guidance.
    """

    name: str
    recipe: str
    side: int
    patch: int
    block: str
    counts: tuple[int, ...]
    network: Mapping[str, int]
    smaller: Mapping[str, int]
    larger: Mapping[str, int]
    steps: int
    batch: int
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 500
    sampling_steps: int = 10
    guidance: float = 1.5

    def layout(self, block: str | None = None, patch: int | None = None) -> Layout:
        """Return the layout of an image; by default that of the reference."""
        side = patch or self.patch
        tokens = self.side // side
        return Layout((tokens, tokens), parse_dims(block or self.block), (side, side))

    def blocks(self, patch: int | None = None) -> dict[int, str]:
        """Return the square blocks that cut an image into `counts` blocks, by that number."""
        side = self.side // (patch or self.patch)
        roots = {count: round(count**0.5) for count in self.counts}
        return {count: dims((side // root,) * 2) for count, root in roots.items() if root <= side}


SCHEDULE = {"learning_rate": 3e-3, "warmup_steps": 50, "decay_share": DECAY, "ema_decay": 0.98}
FULL = DigitBudget(
    "full",
    recipe="digits",
    side=8,
    patch=2,
    block="2x2",
    counts=(1, 4, 16, 64),
    network={"num_layers": 4, "hidden_size": 64, "num_heads": 2},
    smaller={"num_layers": 2, "hidden_size": 32, "num_heads": 1},
    larger={"num_layers": 6, "hidden_size": 96, "num_heads": 3},
    steps=1200,
    batch=32,
    optimizer=SCHEDULE,
)
MNIST = DigitBudget(
    "full-mnist",
    recipe="mnist",
    side=32,
    patch=4,
    block="4x4",
    counts=(1, 4, 16, 64),
    network={"num_layers": 4, "hidden_size": 96, "num_heads": 3},
    smaller={"num_layers": 2, "hidden_size": 64, "num_heads": 2},
    larger={"num_layers": 6, "hidden_size": 128, "num_heads": 4},
    steps=2000,
    batch=32,
    optimizer=SCHEDULE | {"learning_rate": 2e-3, "ema_decay": 0.995},
    samples=1000,
)
QUICK = DigitBudget(
    "quick",
    recipe="digits",
    side=8,
    patch=2,
    block="2x2",
    counts=(1, 4),
    network={"num_layers": 1, "hidden_size": 8, "num_heads": 1},
    smaller={"num_layers": 1, "hidden_size": 4, "num_heads": 1},
    larger={"num_layers": 2, "hidden_size": 8, "num_heads": 1},
    steps=10,
    batch=4,
    optimizer=SCHEDULE | {"warmup_steps": 0},
    samples=20,
    sampling_steps=2,
)
BUDGETS = {budget.name: budget for budget in (FULL, MNIST, QUICK)}


def digit_run(budget: DigitBudget, seed: int, overrides: Mapping[str, Any], name: str) -> RunSpec:
    """Return a run of the base recipe with some values changed.

    Args:
        budget: data, network and sizes of the run.
        seed: seed of the run.
        overrides: values in place of those of the base, by dotted key.
        name: name of the run in tables, to which the seed is added.
    """
    values = {
        **{f"model.{key}": value for key, value in budget.network.items()},
        **{f"optimizer.{key}": value for key, value in budget.optimizer.items()},
        "layout.patch": budget.patch,
        "layout.blocks": [budget.block],
        "training.steps": budget.steps,
        "training.batch_size": budget.batch,
        **overrides,
    }
    interval = max(1, values["training.steps"] // CHECKPOINTS)
    # not part of the digest, so every run has them, whichever study trains it
    values |= {"training.keep_every": interval, "training.checkpoint_every": interval}
    return RunSpec(budget.recipe, values, seed, f"{name}-{seed}")
