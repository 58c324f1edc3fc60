"""The checked arguments of a pipeline call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from ..diffusion.generate import Guidance
from ..diffusion.timesteps import Spacing
from ..model.layout import Layout
from .callbacks import StepFunction
from .generators import Generators
from .labels import BlockLabels

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
    callback_on_step_end: StepFunction | None
    callback_on_step_end_tensor_inputs: Sequence[str]


@dataclass(frozen=True)
class Samples:
    """Samples that a call generates.

    Attributes:
        labels: class or null label of each sample, (N,), or those of every block in turn; None = all null.
        generators: generator of each sample, see `one_per_sample`.
    """

    labels: Tensor | BlockLabels | None
    generators: list[torch.Generator]

    def __len__(self) -> int:
        return len(self.generators)

    def current_labels(self, device: torch.device) -> Tensor:
        """Return the classes (N, 1) of the current block; -1 for all if no sample has one."""
        labels = self.labels.current if isinstance(self.labels, BlockLabels) else self.labels
        return (torch.full((len(self),), -1, device=device) if labels is None else labels)[:, None]


@dataclass(frozen=True)
class Request:
    """Checked arguments for `generate`.

    Attributes:
        samples: samples to generate.
        layout: layout of each sample.
        steps: solver steps of every block, one number for all or one for each.
        guidance: classifier-free guidance.
        noise: noise (N, T, B, C), or a function that returns the noise of one block by its index.
        output_type: `pil`, `np`, `pt` or `latent`.
        spacing: timesteps or noise levels in place of the scheduler's.
        callback: function that is called after each step; None = none.
        callback_inputs: names of the tensors that it receives.
        prefix: existing blocks (N, K, B, C) to continue; None = none.
        window: attention window, see `generate`.
        sinks: number of sinks, see `generate`.
        context_noise: standard deviation of the context noise, see `generate`.
        endless: whether the layout stands for a video without end.
    """

    samples: Samples
    layout: Layout
    steps: int | list[int]
    guidance: Guidance
    noise: Noise
    output_type: str
    spacing: Spacing
    callback: StepFunction | None = None
    callback_inputs: Sequence[str] = ()
    prefix: Tensor | None = None
    window: int | None = None
    sinks: int = 0
    context_noise: float = 0.0
    endless: bool = False

    @property
    def start(self) -> int:
        """Return the index of the first block to generate."""
        return 0 if self.prefix is None else self.prefix.shape[1]

    def initial_samples(self) -> Tensor:
        """Return the samples (N, T, B, C) before the first step: the prefix, and noise after it."""
        noise = self.noise
        if callable(noise):
            noise = torch.stack([noise(index) for index in range(self.layout.num_blocks)], dim=1)
        samples = noise.float().clone()
        if self.prefix is not None:
            samples[:, : self.start] = self.prefix
        return samples
