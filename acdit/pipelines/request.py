"""The checked arguments of a pipeline call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from ..diffusion.generate import Guidance
from ..diffusion.timesteps import Spacing
from ..model.layout import Layout
from .generators import Generators

Noise = Tensor | Callable[[int], Tensor]


class SharedArguments(TypedDict, total=False):
    """Arguments that images and video share, of calls and of streams; see `ACDiTImagePipeline.__call__`."""

    num_inference_steps: int | Sequence[int] | None
    timesteps: Sequence[float] | None
    sigmas: Sequence[float] | None
    mu: float | None
    guidance_scale: float | None
    guidance_rising: bool
    guidance_interval: tuple[float, float] | None
    height: int | None
    width: int | None
    block: Sequence[int] | None
    generator: Generators
    latents: Tensor | None
    output_type: str


@dataclass(frozen=True)
class Samples:
    """Samples that a call generates.

    Attributes:
        labels: class or null label of each sample, (N,); None = all null.
        generators: generator of each sample, see `one_per_sample`.
    """

    labels: Tensor | None
    generators: list[torch.Generator]

    def __len__(self) -> int:
        return len(self.generators)


@dataclass(frozen=True)
class Request:
    """Checked arguments for `generate`.

    Attributes:
        samples: samples to generate.
        layout: layout of each sample.
        steps: solver steps of every block.
        guidance: classifier-free guidance.
        noise: noise (N, T, B, C), or a function that returns the noise of one block by its index.
        output_type: `pil`, `np`, `pt` or `latent`.
        spacing: timesteps or noise levels in place of the scheduler's.
        prefix: existing blocks (N, K, B, C) to continue; None = none.
        window: attention window, see `generate`.
        sinks: number of sinks, see `generate`.
        context_noise: standard deviation of the context noise, see `generate`.
    """

    samples: Samples
    layout: Layout
    steps: list[int]
    guidance: Guidance
    noise: Noise
    output_type: str
    spacing: Spacing
    prefix: Tensor | None = None
    window: int | None = None
    sinks: int = 0
    context_noise: float = 0.0

    @property
    def start(self) -> int:
        """Return the index of the first block to generate."""
        return 0 if self.prefix is None else self.prefix.shape[1]
