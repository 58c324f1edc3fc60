"""What a call of a pipeline asks for, once it is checked; and the caller's function that watches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..diffusion.generate import Guidance, StepEnd
from ..model.layout import Layout
from ..utils.errors import UserError
from .block_pipeline import BlockPipeline


@dataclass(frozen=True)
class Samples:
    """Which samples a call is to draw.

    Attributes:
        labels: (N,) classes, or null; None = all null.
        generators: one for each.
    """

    labels: Tensor | None
    generators: list[torch.Generator]

    def __len__(self) -> int:
        return len(self.generators)


@dataclass(frozen=True)
class Request:
    """What a call asks of `generate`, checked.

    Attributes:
        samples: to draw.
        layout: of each.
        steps: solver steps of every block.
        guidance: classifier-free.
        noise: (N, T, B, C), or that of one block by its index.
        prefix: (N, K, B, C) blocks that are there already; None = none.
        window, sinks, context_noise: see `generate`.
    """

    samples: Samples
    layout: Layout
    steps: list[int]
    guidance: Guidance
    noise: Tensor | Callable[[int], Tensor]
    prefix: Tensor | None = None
    window: int | None = None
    sinks: int = 0
    context_noise: float = 0.0

    @property
    def start(self) -> int:
        """The first block to draw."""
        return 0 if self.prefix is None else self.prefix.shape[1]


class Callback:
    """The caller's function, which sees the whole picture so far after each solver step.

    It may change the block at hand.

    Args:
        pipeline: that it is told of.
        call: (pipeline, step, timestep, tensors) -> tensors.
        inputs: names of the tensors that it gets; `latents` is all there is.
        request: whose noise and prefix the picture begins with.
    """

    def __init__(
        self,
        pipeline: BlockPipeline,
        call: Callable[..., dict[str, Any]],
        inputs: Sequence[str],
        request: Request,
    ):
        self.pipeline, self.call, self.inputs, self.layout = pipeline, call, inputs, request.layout
        noise = request.noise
        if callable(noise):
            noise = torch.stack([noise(index) for index in range(request.layout.num_blocks)], dim=1)
        self.canvas = noise.float().clone()  # (N, T, B, C): finished blocks, and noise where none is yet
        if request.prefix is not None:
            self.canvas[:, : request.start] = request.prefix

    def __call__(self, end: StepEnd) -> Tensor | None:
        """Tell of a step: the block's sample if it is returned changed."""
        self.canvas[:, end.block] = end.sample
        tensors = {"latents": self.layout.from_blocks(self.canvas)} if self.inputs else {}
        returned = self.call(self.pipeline, end.step, end.timestep, tensors).get("latents")
        if returned is None:
            return None
        self.canvas[:, end.block] = changed = self.layout.to_blocks(returned)[:, end.block]
        return changed


def one_per_sample(
    generator: torch.Generator | Sequence[torch.Generator] | None, batch: int
) -> list[torch.Generator]:
    """A generator for every sample: those given, or seeded in order from the one given (or torch's own)."""
    if generator is not None and not isinstance(generator, torch.Generator):
        if len(generator) != batch:
            raise UserError(
                f"generator must be one, or one for each of {batch} samples, not {len(generator)}"
            )
        return list(generator)
    source = generator
    device = "cpu" if source is None else source.device
    seeds = torch.randint(2**63 - 1, (batch,), generator=source, device=device).tolist()
    return [torch.Generator().manual_seed(seed) for seed in seeds]
