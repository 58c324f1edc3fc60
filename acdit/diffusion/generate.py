"""Block-by-block sampling of all modalities, and classifier-free guidance.

`generate` yields the finished blocks one by one.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ..model.kv_cache import KVCache
from ..model.layout import Layout
from ..model.token_head import GeneratorNetwork
from ..utils.checks import is_integer
from ..utils.errors import UserError
from ..utils.finite import is_finite
from ..utils.randomness import generator
from ..utils.tracing import is_concrete
from .branches import Branches
from .schedulers import Solver
from .solver_checks import check_solver
from .timesteps import Spacing, noise_levels, started


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance, uncond + s (cond - uncond) (Appendix B: s = 1.5 for images, 2.5 for video).

    Attributes:
        scale: Guidance scale s; 1 = no guidance.
        rising: Whether s grows linearly over the blocks, from 1 at the first to `scale` at the last.
        interval: Lowest and highest noise level (the scheduler's sigma) at which guidance acts; None = all.
    """

    scale: float = 1.5
    rising: bool = False
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.scale, Real) or not math.isfinite(self.scale):
            raise UserError(f"guidance_scale must be a finite number, not {self.scale!r}")
        ends = (0.0, 1.0) if self.interval is None else self.interval
        pair = isinstance(ends, Sequence) and len(ends) == 2 and all(isinstance(end, Real) for end in ends)
        if not pair or not -math.inf < ends[0] < ends[1] < math.inf:
            raise UserError(
                "guidance_interval must be a low sigma followed by a higher one, both finite, "
                f"not {self.interval}"
            )

    def at(self, block: int, num_blocks: int, sigma: float) -> float:
        """Return the guidance scale for a sampling step of one block.

        Args:
            block: Index of the block.
            num_blocks: Number of blocks of the sample.
            sigma: Noise level of the step, in the scheduler's units.
        """
        if self.interval is not None and not self.interval[0] <= sigma <= self.interval[1]:
            return 1.0
        if self.rising:
            return 1.0 + (self.scale - 1.0) * block / max(1, num_blocks - 1)
        return self.scale


@dataclass(frozen=True)
class Block:
    """One finished block and its cost.

    Attributes:
        index: Index in the sequence.
        sample: Values (N, B, C), or tokens (N, B).
        evaluations: Number of calls of the network; with guidance, one call evaluates both branches.
        cache: Current cache of keys and values; None for a layout of one block.
        complete: Whether all steps were taken; False for the last block of an interrupted generation.
    """

    index: int
    sample: Tensor
    evaluations: int
    cache: KVCache | None
    complete: bool = True

    @property
    def cache_bytes(self) -> int:
        """Return the size of the cache in bytes; 0 for a layout of one block."""
        return 0 if self.cache is None else self.cache.nbytes


@dataclass(frozen=True)
class StepEnd:
    """Argument of a callback after a sampling step: the block's sample is (N, B, C).

    `step` is counted over all blocks.
    """

    step: int
    timestep: Tensor
    block: int
    sample: Tensor


def draw_noise(seeds: Sequence[int] | Sequence[torch.Generator], layout: Layout, channels: int) -> Tensor:
    """Draw unit noise (N, T, B, C), with a separate seed for each sample.

    The noise is drawn for the whole grid and then cut into blocks, so that a seed gives the same noise at
    every block size.

    Args:
        seeds: Seed, or random generator, of each of the N samples.
        layout: Layout of the samples.
        channels: Number of channels of a data element, such as a pixel, not of a token.
    """
    drawn = []
    for seed in seeds:
        source = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        drawn.append(torch.randn(channels, *layout.size, generator=source, device=source.device).cpu())
    return layout.to_blocks(torch.stack(drawn))


class FrameNoise:
    """Unit noise of clips, drawn frame by frame, so that a seed gives the same noise for every clip length.

    Args:
        seeds: Seeds of the samples.
        layout: Layout of a clip (t, h, w), of any length.
        channels: Number of channels of a data element.
        device: Device of the returned noise.
    """

    def __init__(self, seeds: Sequence[int], layout: Layout, channels: int, device: torch.device):
        self.seeds, self.layout, self.channels, self.device = tuple(seeds), layout, channels, device
        self.slab = slab_layout(layout)
        self.frames = self.slab.size[0]
        self._drawn: tuple[int, Tensor] | None = None  # the last requested slab: blocks come in order

    def __call__(self, block: int) -> Tensor:
        """Return the noise of one block, (N, B, C)."""
        slab, index = divmod(block, self.slab.num_blocks)
        if self._drawn is None or self._drawn[0] != slab:
            frames = range(slab * self.frames, (slab + 1) * self.frames)
            clips = [torch.stack([self._frame(seed, frame) for frame in frames], 1) for seed in self.seeds]
            drawn = self.slab.to_blocks(torch.stack(clips))  # (N, blocks, B, C)
            noise = drawn.to(self.device)
            if not is_concrete(noise):  # of a tracer, which the next call may not have
                return noise[:, index]
            self._drawn = slab, noise
        return self._drawn[1][:, index]

    def _frame(self, seed: int, frame: int) -> Tensor:
        return torch.randn(self.channels, *self.layout.size[1:], generator=generator(seed, "frame", frame))


def slab_layout(layout: Layout) -> Layout:
    """Return the layout of a slab of a video: all blocks that hold the same frames."""
    return Layout((layout.block[0], *layout.grid[1:]), layout.block, layout.patch)


def checked_steps(steps: int | Sequence[int], num_blocks: int) -> int | list[int]:
    """Check and return numbers of sampling steps: one for all blocks, or a list of one for each.

    Raises:
        UserError: If `steps` is neither a positive whole number nor a list of one for each block.
    """
    counts = list(steps) if isinstance(steps, Sequence) else [steps]
    if any(not is_integer(count) or count < 1 for count in counts) or (
        isinstance(steps, Sequence) and len(counts) != num_blocks
    ):
        raise UserError(
            f"steps must be a positive number or a list of {num_blocks} (one per block), all whole, "
            f"not {steps}"
        )
    counts = [int(count) for count in counts]
    return counts if isinstance(steps, Sequence) else counts[0]


def steps_per_block(steps: int | Sequence[int], num_blocks: int) -> list[int]:
    """Return the number of sampling steps of every block.

    Raises:
        UserError: If `steps` is neither a positive whole number nor a list of one for each block.
    """
    counts = checked_steps(steps, num_blocks)
    return counts if isinstance(counts, list) else [counts] * num_blocks


@torch.no_grad()
def generate(
    model: GeneratorNetwork,
    layout: Layout,
    noise: Tensor | Callable[[int], Tensor],
    *,
    scheduler: Solver,
    steps: int | Sequence[int] = 25,
    spacing: Spacing | None = None,
    labels: Tensor | Callable[[int], Tensor | None] | None = None,
    guidance: Guidance | None = None,
    prefix: Tensor | None = None,
    window: int | None = None,
    sinks: int = 0,
    context_noise: float = 0.0,
    generators: Sequence[torch.Generator] | None = None,
    on_step: Callable[[StepEnd], Tensor | None] | None = None,
    interrupted: Callable[[], bool] | None = None,
) -> Iterator[Block]:
    """Sample block by block (section 4.4, Fig. 2b), each from its noise and the cached earlier clean blocks.

    A finished block and the first step of the next one go through the network in one call. The two branches
    of guidance are two views of the same block and use one cache, unless the past depends on the label, see
    `Branches`. The solver starts anew at each block.

    Args:
        model: Network, an `ACDiTTransformer` or a `CausalTokenDiffusion`.
        layout: Layout of the samples; any that the network's axes allow.
        noise: Noise (N, T, B, C), see `draw_noise`, or a function that returns the noise (N, B, C) of a block
            index. The solver computes in its dtype, usually float32. For text: tokens (N, T, B), masked where
            they are to be generated, given elsewhere; a block without masks is not computed.
        scheduler: Diffusers scheduler; it is copied, not changed.
        steps: Number of sampling steps per block, one number for all or one for each.
        spacing: Timesteps or noise levels of every block, in place of those of the scheduler.
        labels: Classes (N,); None = unconditional. Or a function that returns those of a block by its index;
            it is called just before the block begins. The cache of earlier blocks does not depend on them.
        guidance: Classifier-free guidance, which acts only if there are labels; None = no guidance.
        prefix: Clean blocks (N, K, B, C) to continue from.
        window: Number of previous clean blocks visible to each block; None = all. With a window, memory does
            not grow with the length of the layout, see `KVCache`.
        sinks: Number of first blocks that stay visible beyond the window.
        context_noise: Standard deviation of noise on finished blocks that later blocks see. It reduces errors
            that add up from block to block, if the network has learned to tolerate it.
        generators: Random generators, one per sample, for context noise and for schedulers that draw noise in
            their steps.
        on_step: Function that is called after each step; a tensor that it returns replaces the sample.
        interrupted: Function that is called after each step and before each block; True ends the generation.

    Yields:
        Every finished block after the prefix.

    Raises:
        UserError: If an argument does not fit, or a block has values that are not finite.
    """
    counts = checked_steps(steps, layout.num_blocks)
    guidance = guidance or Guidance(scale=1.0)
    noise_of = noise if callable(noise) else lambda index: noise[:, index]
    start = 0 if prefix is None else prefix.shape[1]
    if start > layout.num_blocks:
        raise UserError(f"prefix has {start} blocks, but {layout} has only {layout.num_blocks}")
    if start == layout.num_blocks:
        return
    sample = noise_of(start)
    batch, device, discrete = len(sample), sample.device, not sample.dtype.is_floating_point
    current = None if callable(labels) else labels  # classes of the current block
    branches = Branches(model, layout, current, guided=guidance.scale != 1.0, dtype=sample.dtype)
    check_solver(scheduler, model.config, bounds=(0.0, 0.0))  # the pipeline knows those of the data
    branches.open_cache(batch, window, sinks, device)
    pending = None  # clean blocks that are not yet in the cache
    if prefix is not None and start:
        pending = _with_noise(prefix, context_noise, generators)
    total_steps = 0
    for index in range(start, layout.num_blocks):
        if callable(labels):
            current = labels(index)
            branches.relabel(current)
        if pending is not None:
            pending = branches.fill_cache(pending)
        count = counts if isinstance(counts, int) else counts[index]
        solver = started(scheduler, count, spacing, device)
        step_arguments = _step_arguments(solver, generators)
        sigmas = noise_levels(solver)
        # Flow-matching schedulers of diffusers scale neither the initial noise nor the network's input.
        sample = noise_of(index) * getattr(solver, "init_noise_sigma", 1)  # (N, B, C), or (N, B)
        evaluations = 0
        complete = True
        for position, (timestep, sigma) in enumerate(zip(solver.timesteps, sigmas, strict=True)):
            if discrete and solver.finished(sample):
                break
            scale = guidance.at(index, layout.num_blocks, sigma) if current is not None else 1.0
            scales = hasattr(solver, "scale_model_input")
            scaled = solver.scale_model_input(sample, timestep) if scales else sample
            views, options = branches.arguments(scaled, timestep, index, pending, scale)
            prediction = branches.combined(model(*views, **options).sample, scale)
            pending = None
            sample = solver.step(prediction, timestep, sample, **step_arguments).prev_sample
            total_steps, evaluations = total_steps + 1, evaluations + 1
            if on_step is not None:
                replacement = on_step(StepEnd(total_steps - 1, timestep, index, sample))
                sample = sample if replacement is None else replacement
            if interrupted is not None and interrupted():
                complete = position == len(sigmas) - 1
                break
        _check_block(index, sample, branches.network_dtype)
        finished = _with_noise(sample[:, None], context_noise, generators)
        pending = finished if pending is None else torch.cat((pending, finished), dim=1)
        yield Block(index, sample, evaluations, branches.cache, complete)
        if interrupted is not None and interrupted():
            return


def _check_block(index: int, sample: Tensor, dtype: torch.dtype) -> None:
    """Raise UserError if a finished block has values that are not finite."""
    if not is_finite(sample):
        precision = str(dtype).removeprefix("torch.")
        raise UserError(
            f"the samples are not finite (NaN or infinity) from block {index} on, with a network in "
            f"{precision}: lower the guidance scale, use float32, or use a model whose weights are sound"
        )


def _with_noise(clean: Tensor, deviation: float, generators: Sequence[torch.Generator] | None) -> Tensor:
    """Return clean blocks (N, P, B, C) with added noise of a standard deviation."""
    if not deviation:
        return clean
    sources: Sequence[torch.Generator | None] = generators or [None] * len(clean)
    drawn = [
        torch.randn(clean.shape[1:], generator=source, device=source.device if source else None).cpu()
        for source in sources
    ]
    return clean + deviation * torch.stack(drawn).to(clean)


def _step_arguments(solver: Solver, generators: Sequence[torch.Generator] | None) -> dict[str, Any]:
    takes_generator = "generator" in inspect.signature(solver.step).parameters
    return {"generator": list(generators)} if takes_generator and generators is not None else {}
