"""generate(): the one block-by-block loop of all modalities, a generator of finished blocks; and guidance."""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..model.kv_cache import KVCache
from ..model.layout import Layout
from ..model.transformer import ACDiTTransformer
from ..utils.errors import UserError
from ..utils.randomness import generator
from .schedulers import Solver

MIDDLE = (0.2, 0.8)  # shares of the noise levels, between which guidance acts where it does so in the middle


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance, uncond + s (cond - uncond).

    Attributes:
        scale: s; 1 = none.
        rising: whether s grows linearly over the blocks, from 1 at the first to `scale` at the last.
        interval: lowest and highest noise level (the scheduler's sigma) at which guidance acts; None = all.
    """

    scale: float = 1.5
    rising: bool = False
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.interval is not None and not self.interval[0] < self.interval[1]:
            raise UserError(
                f"the guidance interval must rise, from a low sigma to a high one, not {self.interval}"
            )

    def at(self, block: int, num_blocks: int, sigma: float) -> float:
        """The scale for a step of one block."""
        if self.interval is not None and not self.interval[0] <= sigma <= self.interval[1]:
            return 1.0
        if self.rising:
            return 1.0 + (self.scale - 1.0) * block / max(1, num_blocks - 1)
        return self.scale


@dataclass(frozen=True)
class Block:
    """One finished block, and what it took.

    Attributes:
        index: place in the sequence.
        sample: (N, B, C), or tokens (N, B).
        evaluations: calls of the network; with guidance one call holds two views.
        cache: keys and values that are held now; None for a layout of one block.
    """

    index: int
    sample: Tensor
    evaluations: int
    cache: KVCache | None


@dataclass(frozen=True)
class StepEnd:
    """What a callback sees after a solver step, counted over all blocks: the block's sample (N, B, C)."""

    step: int
    timestep: Tensor
    block: int
    sample: Tensor


def draw_noise(seeds: Sequence[int] | Sequence[torch.Generator], layout: Layout, channels: int) -> Tensor:
    """Unit noise (N, T, B, C), each sample's from its own seed: for the whole grid, then cut.

    So a seed means the same noise at every block size. `channels` counts those of a data element, not of a
    token.
    """
    drawn = []
    for seed in seeds:
        source = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        drawn.append(torch.randn(channels, *layout.size, generator=source, device=source.device).cpu())
    return layout.to_blocks(torch.stack(drawn))


class FrameNoise:
    """Unit noise of clips, one frame after another, so that a seed means the same however long the clip.

    Args:
        seeds: of the samples.
        layout: of a clip (t, h, w), of any length.
        channels: of a data element.
        device: where the noise is wanted.
    """

    def __init__(self, seeds: Sequence[int], layout: Layout, channels: int, device: torch.device):
        self.seeds, self.layout, self.channels, self.device = tuple(seeds), layout, channels, device
        self.frames = layout.block[0] * layout.patch[0]  # of a slab, which blocks side by side share
        slab = (layout.block[0], *layout.grid[1:])
        self.slab = Layout(slab, layout.block, layout.patch)
        self._drawn: tuple[int, Tensor] | None = None  # the slab asked for last: blocks come in order

    def __call__(self, block: int) -> Tensor:
        """Of one block, (N, B, C)."""
        slab, place = divmod(block, self.slab.num_blocks)
        if self._drawn is None or self._drawn[0] != slab:
            frames = range(slab * self.frames, (slab + 1) * self.frames)
            clips = [torch.stack([self._frame(seed, frame) for frame in frames], 1) for seed in self.seeds]
            drawn = self.slab.to_blocks(torch.stack(clips))  # (N, blocks, B, C)
            self._drawn = slab, drawn.to(self.device)
        return self._drawn[1][:, place]

    def _frame(self, seed: int, frame: int) -> Tensor:
        return torch.randn(self.channels, *self.layout.size[1:], generator=generator(seed, "frame", frame))


def steps_per_block(steps: int | Sequence[int], num_blocks: int) -> list[int]:
    """One number of solver steps for every block.

    Raises:
        UserError: if a list does not name one positive number per block.
    """
    listed = list(steps) if isinstance(steps, Sequence) else [int(steps)] * num_blocks
    if len(listed) != num_blocks or any(count < 1 for count in listed):
        raise UserError(
            f"steps must be a positive number, or {num_blocks} of them (one per block), not {steps}"
        )
    return listed


@torch.no_grad()
def generate(
    model: ACDiTTransformer,
    layout: Layout,
    noise: Tensor | Callable[[int], Tensor],
    *,
    scheduler: Solver,
    steps: int | Sequence[int] = 25,
    labels: Tensor | None = None,
    guidance: Guidance | None = None,
    prefix: Tensor | None = None,
    window: int | None = None,
    sinks: int = 0,
    context_noise: float = 0.0,
    generators: Sequence[torch.Generator] | None = None,
    on_step: Callable[[StepEnd], Tensor | None] | None = None,
) -> Iterator[Block]:
    """Sample block by block (section 4.4, Fig. 2b), each from its noise and the cached clean past.

    The clean block and the first step of the next one go through the network in one call. Both branches of
    guidance are two views of the same block on one cache. The solver starts anew at each block.

    Args:
        model: an `ACDiTTransformer`.
        layout: of the samples; any that the network's axes allow.
        noise: (N, T, B, C), see `draw_noise`, or what gives that of one block by its index, (N, B, C); the
            solver computes in its dtype, float32 as a rule. Of text: tokens (N, T, B), masked where they are
            to be drawn, given elsewhere; a block without masks is not computed.
        scheduler: a diffusers scheduler; it is copied, not changed.
        steps: solver steps per block, one number or one for each.
        labels: (N,) classes; None = unconditional.
        guidance: None = none; acts where there are labels.
        prefix: (N, K, B, C) clean blocks to continue from.
        window, sinks: clean blocks that a block sees behind itself, None = all, and first ones that it sees
            besides; then memory stays the same however long the layout, see `KVCache`.
        context_noise: standard deviation of noise on finished blocks that others are to see; it damps
            errors that add up from block to block where the network has learned to bear it.
        generators: one per sample, for context noise and for schedulers that draw noise in their steps.
        on_step: called after each step; a tensor that it returns takes the sample's place.

    Yields:
        Every block after the prefix, finished.
    """
    counts = steps_per_block(steps, layout.num_blocks)
    guidance = guidance or Guidance(scale=1.0)
    noise_of = noise if callable(noise) else lambda index: noise[:, index]
    start = 0 if prefix is None else prefix.shape[1]
    if start > layout.num_blocks:
        raise UserError(f"prefix must hold at most the {layout.num_blocks} blocks of {layout}, not {start}")
    if start == layout.num_blocks:
        return
    sample = noise_of(start)
    batch, device, dtype = len(sample), sample.device, sample.dtype
    null_label = model.config["num_classes"]
    if labels is not None and null_label is None:
        raise UserError("labels were given, but the model was trained without classes")
    cache = None
    if layout.num_blocks > 1:
        cache = model.new_cache(layout, batch, window=window, sinks=sinks, device=device)
    pending = None  # clean blocks that the cache does not hold yet
    if prefix is not None and start:
        pending = _noisy(prefix, context_noise, generators)
    discrete = not dtype.is_floating_point
    total = 0
    for index in range(start, layout.num_blocks):
        if pending is not None and cache is not None:
            pending = _remembered(model, layout, cache, pending if discrete else pending.to(model.dtype))
        # a scheduler may have more than its contract says
        solver: Any = copy.deepcopy(scheduler)
        solver.set_timesteps(counts[index], device=device)
        extra = _step_arguments(solver, generators)
        sigmas = noise_levels(solver)
        # Flow-matching schedulers of diffusers neither scale their start nor what the network sees.
        sample = noise_of(index) * getattr(solver, "init_noise_sigma", 1)  # (N, B, C), or (N, B)
        done = 0
        for timestep, sigma in zip(solver.timesteps, sigmas, strict=True):
            if discrete and solver.finished(sample):
                break
            scale = guidance.at(index, layout.num_blocks, sigma) if labels is not None else 1.0
            views = 1 if scale == 1.0 else 2
            scaled = (
                solver.scale_model_input(sample, timestep) if hasattr(solver, "scale_model_input") else sample
            )
            inputs = scaled if discrete else scaled.to(model.dtype)
            view_labels = None
            if labels is not None:
                view_labels = labels[:, None]
                if views == 2:
                    view_labels = torch.stack((labels, torch.full_like(labels, null_label)), dim=1)  # (N, 2)
            answer = model(
                inputs.unsqueeze(1).expand(-1, views, *inputs.shape[1:]),
                timestep.expand(batch, views),
                layout=layout,
                blocks=(index,) * views,
                clean=pending,
                labels=view_labels,
                cache=cache,
            ).sample  # (N, 1 or 2, B, C), or logits (N, 1 or 2, B, V)
            answer = answer if discrete else answer.to(dtype)
            pending = None
            prediction = answer[:, 0]
            if views == 2:
                prediction = torch.lerp(answer[:, 1], answer[:, 0], scale)
            sample = solver.step(prediction, timestep, sample, **extra).prev_sample
            total, done = total + 1, done + 1
            if on_step is not None:
                replaced = on_step(StepEnd(total - 1, timestep, index, sample))
                sample = sample if replaced is None else replaced
        finished = _noisy(sample[:, None], context_noise, generators)
        pending = finished if pending is None else torch.cat((pending, finished), dim=1)
        yield Block(index, sample, done, cache)


def _remembered(model: ACDiTTransformer, layout: Layout, cache: KVCache, pending: Tensor) -> Tensor | None:
    """What of the clean blocks (N, P, B, C) may go with the next views; the cache takes in the others now."""
    blocks = list(pending.split(1, dim=1))
    while blocks and not cache.takes_beside_views(len(blocks)):
        model(None, layout=layout, clean=blocks.pop(0), cache=cache)
    return torch.cat(blocks, dim=1) if blocks else None


def _noisy(clean: Tensor, deviation: float, generators: Sequence[torch.Generator] | None) -> Tensor:
    """Clean blocks (N, P, B, C) with noise of this standard deviation."""
    if not deviation:
        return clean
    sources: Sequence[torch.Generator | None] = generators or [None] * len(clean)
    drawn = [
        torch.randn(clean.shape[1:], generator=source, device=source.device if source else None).cpu()
        for source in sources
    ]
    return clean + deviation * torch.stack(drawn).to(clean)


def noise_levels(scheduler: Solver) -> list[float]:
    """The sigma of every step: the scheduler's own, or sqrt((1 - alpha) / alpha) where it keeps none."""
    solver: Any = scheduler
    if hasattr(solver, "sigmas"):
        return [float(sigma) for sigma in solver.sigmas[: len(solver.timesteps)]]
    alphas = solver.alphas_cumprod[solver.timesteps.cpu().long()]
    return ((1 - alphas) / alphas).sqrt().tolist()


def middle_levels(scheduler: Solver, steps: int) -> tuple[float, float]:
    """The lowest and the highest of the noise levels of so many steps, without those at either end."""
    solver = copy.deepcopy(scheduler)
    solver.set_timesteps(steps)
    levels = sorted(noise_levels(solver))
    first, last = (int(share * (steps - 1)) for share in MIDDLE)
    return levels[first], levels[last]


def _step_arguments(solver: Solver, generators: Sequence[torch.Generator] | None) -> dict[str, Any]:
    takes_generator = "generator" in inspect.signature(solver.step).parameters
    return {"generator": list(generators)} if takes_generator and generators is not None else {}
