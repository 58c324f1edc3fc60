"""Study of time and FLOPs of sampling against the number of blocks (Fig. 5, section 4.4, Appendix A)."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from ..bench.roofline import generation_flops
from ..bench.timing import machine
from ..diffusion.generate import generate
from ..diffusion.schedulers import default_sampler
from ..model.flops import Dimensions, forward_flops
from ..model.kv_cache import KVCache
from ..model.layout import Layout
from ..model.matmul_rate import seconds_of
from ..model.sizes import SIZES, Size
from ..model.transformer import ACDiTTransformer
from ..utils.errors import require
from ..utils.randomness import generator, seed_of
from .claims_time import LAPTOP
from .design import Design, Measurement
from .sampling_time_report import PROFILED, report

CHANNELS = 4
TINY = Size(1, 16, 1)
SIDES, QUICK_SIDES = (32, 64, 128), (4, 8)  # of the grid: 1,024, 4,096 and 16,384 tokens
COUNTS, QUICK_COUNTS = (1, 4, 16, 64), (1, 4)  # numbers of blocks
OPERATORS = 5  # of a profile


@dataclass(frozen=True)
class Timing:
    """Settings of the timing.

    Attributes:
        size: size of the network.
        steps: number of sampling steps per block.
        seed: seed of the weights and the noise.
        device: device of the network.
        dtype: data type of the network.
    """

    size: Size
    steps: int
    seed: int
    device: torch.device
    dtype: torch.dtype


def time_design(
    *,
    seed: int,
    rounds: int,
    steps: int,
    size: str | None,
    device: torch.device,
    dtype: torch.dtype,
    quick: bool,
) -> Design:
    """Return the design of the study: in every round, each number of blocks is timed once, at each length.

    Args:
        seed: seed of the weights and the noise.
        rounds: number of rounds.
        steps: number of sampling steps per block.
        size: named size of the network; None = one for laptops.
        device: device to time.
        dtype: data type of the network.
        quick: whether a tiny network and short sequences try the study in seconds.
    """
    require("matplotlib", "examples")
    dimensions = (TINY if quick else LAPTOP) if size is None else SIZES[size]
    timing = Timing(dimensions, steps, seed, device, dtype)
    sides, counts = (QUICK_SIDES, QUICK_COUNTS) if quick else (SIDES, COUNTS)
    setting = {
        "network": dimensions._asdict(),
        "steps": steps,
        "seed": seed,
        "dtype": str(dtype).removeprefix("torch."),
        "machine": {key: value for key, value in machine(device).items() if key != "settings"},
    }
    measurements = []
    for number in (*range(rounds), PROFILED):  # rounds are interleaved with lengths
        for side in sides:
            measure = _profile if number == PROFILED else partial(_time, number)
            rows = tuple((side**2, count, number) for count in counts)
            measurements.append(Measurement(rows, partial(measure, timing, side, counts)))
    keys = ("tokens", "blocks", "round")
    columns = (
        "seconds",
        "step_seconds",
        "flops",
        "step_flops",
        "formula_flops",
        "formula_saving",
        "operators",
    )
    return Design("time", setting, keys, columns, measurements, partial(report, setting))


def layout_of(side: int, count: int) -> Layout:
    """Return the layout of a square grid that is cut into a square number of square blocks."""
    edge = side // round(count**0.5)
    return Layout((side, side), (edge, edge))


def counted_costs(size: Size, layout: Layout, steps: int) -> dict[str, float]:
    """Return the FLOPs of a sample and of one step of its last block, and those of the formula.

    The formula counts the steps alone, and only the matrix products of the layers over tokens (section 4.4).
    """
    model = Dimensions.of(network_config(size, layout.grid))
    tokens, hidden, last = layout.num_tokens, size.hidden_size, layout.num_blocks - 1
    theta = 12 * hidden**2  # parameters of a layer's matrices
    past = 2 * hidden * tokens * (tokens + layout.block_tokens)  # 4 h L^2 for one block
    return {
        "flops": generation_flops(model, layout, batch=1, steps=steps, labels=0, guided=False),
        "step_flops": forward_flops(model, layout, blocks=(last,), cached=last, clean=0),
        "formula_flops": size.num_layers * steps * (2 * tokens * theta + past),
        "formula_saving": (1 - layout.block_tokens / tokens) / (2 + theta / (hidden * tokens)),
    }


def build_network(timing: Timing, grid: tuple[int, ...]) -> ACDiTTransformer:
    """Return a network with random weights, none of them zero as in a fresh one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(timing.seed, "initialisation"))
        network = ACDiTTransformer(**network_config(timing.size, grid))
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    torch.nn.Module.to(network.eval(), timing.device, timing.dtype)
    return network


def network_config(size: Size, grid: tuple[int, ...]) -> dict[str, Any]:
    """Return the config of a network without classes."""
    network = {**size._asdict(), "in_channels": CHANNELS, "axis_lengths": grid, "mlp_ratio": 4.0}
    return network | {"num_classes": None, "time_conditioning": True}


def block_step(network: ACDiTTransformer, layout: Layout, noise: Tensor) -> Callable[[], object]:
    """Return one sampling step of the last block, over a full cache of the blocks before it.

    Args:
        network: the network.
        layout: layout of the sample.
        noise: noise (1, T, B, C) in the place of all blocks.
    """
    last = layout.num_blocks - 1
    cache: KVCache | None = None
    if last:
        cache = network.new_cache(layout, 1, device=noise.device)
        network(None, layout=layout, clean=noise[:, :last], cache=cache)
    timestep = torch.full((1, 1), 500.0, device=noise.device)
    view = noise[:, last:]  # (1, 1, B, C)
    return lambda: network(view, timestep, layout=layout, blocks=(last,), cache=cache)


def _time(number: int, timing: Timing, side: int, counts: tuple[int, ...]) -> list[Mapping[str, Any]]:
    """Return the rows of a round at one length, after an untimed step of each number of blocks.

    Each round begins with another number of blocks, so that a machine that slows down over a round slows down
    each of them.
    """
    rows = []
    network, noise = build_network(timing, (side, side)), _noise(timing, side)
    first = number % len(counts)
    for count in (*counts[first:], *counts[:first]):
        layout = layout_of(side, count)
        blocks = layout.to_blocks(noise)  # (1, T, B, C)
        scheduler = default_sampler("epsilon")
        with torch.no_grad():
            step = block_step(network, layout, blocks.to(timing.dtype))
            step()
            step_seconds = seconds_of(step, timing.device)
            del step  # its cache
            sample = partial(_sample, network, layout, blocks, scheduler, timing.steps)
            seconds = seconds_of(sample, timing.device)
        key = {"tokens": side**2, "blocks": count, "round": number}
        costs = counted_costs(timing.size, layout, timing.steps)
        rows.append({**key, "seconds": seconds, "step_seconds": step_seconds, **costs, "operators": None})
    return rows


def _sample(network: ACDiTTransformer, layout: Layout, noise: Tensor, scheduler: Any, steps: int) -> None:
    for _ in generate(network, layout, noise, scheduler=scheduler, steps=steps):
        pass


def _noise(timing: Timing, side: int) -> Tensor:
    """Return noise (1, C, side, side)."""
    drawn = torch.randn(1, CHANNELS, side, side, generator=generator(timing.seed, "time", side))
    return drawn.to(timing.device)


def _profile(timing: Timing, side: int, counts: tuple[int, ...]) -> list[Mapping[str, Any]]:
    """Return a row for each number of blocks, with the operators that take most time of a block step."""
    rows = []
    network, noise = build_network(timing, (side, side)), _noise(timing, side)
    cuda = timing.device.type == "cuda"
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler prints at start and end
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    for count in counts:
        layout = layout_of(side, count)
        with torch.no_grad():
            step = block_step(network, layout, layout.to_blocks(noise).to(timing.dtype))
            step()
            with profile(activities=activities, acc_events=True) as recorded:
                step()
                if cuda:
                    torch.cuda.synchronize(timing.device)
        seconds = {
            event.key: event.self_device_time_total if cuda else event.self_cpu_time_total
            for event in recorded.key_averages()
        }
        total = sum(seconds.values())
        longest = sorted(seconds.items(), key=lambda item: -item[1])[:OPERATORS]
        operators = [[name, round(time / total, 4)] for name, time in longest]
        key = {"tokens": side**2, "blocks": count, "round": PROFILED}
        timed = {"seconds": None, "step_seconds": None}
        costs = counted_costs(timing.size, layout, timing.steps)
        rows.append({**key, **timed, **costs, "operators": operators})
    return rows
