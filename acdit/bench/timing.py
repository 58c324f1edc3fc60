"""Measurements: seconds of runs that take turns, their peak memory, and facts about the machine."""

import gc
import os
import platform
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from ..model.matmul_rate import seconds_of, synchronise
from ..utils.heap import allocator, keeps_freed_memory

T = TypeVar("T")


@dataclass(frozen=True)
class Times:
    """Seconds of every repetition."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the median."""
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """Return the smallest value."""
        return min(self.seconds)

    @property
    def maximum(self) -> float:
        """Return the largest value."""
        return max(self.seconds)


def time_alternately(
    runs: Mapping[str, Callable[[], T]],
    repeats: int,
    device: torch.device,
    between: Callable[[], object],
) -> tuple[dict[str, Times], dict[str, T]]:
    """Time runs, one of each in every round, so that slowdowns of the machine affect all equally.

    Each run is first executed once without measurement; the results of these executions are returned with
    the times.

    Args:
        runs: functions to time, by name.
        repeats: number of rounds.
        device: device that the runs use.
        between: function that is called once per round, untimed.
    """
    results = {name: run() for name, run in runs.items()}
    seconds_by_name: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        between()
        for name, run in runs.items():
            gc.collect()
            seconds_by_name[name].append(seconds_of(run, device))
    return {name: Times(tuple(seconds)) for name, seconds in seconds_by_name.items()}, results


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """Return the peak memory of a run in bytes, beyond the memory in use before it.

    On the CPU this is the peak of the running sum of allocations and releases of torch's allocator, as its
    profiler records them. Temporary buffers inside operations are included; memory that oneDNN and MKL
    allocate by themselves is not.
    """
    gc.collect()
    if device.type == "cuda":
        synchronise(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler prints at start and end
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as recorded:
        run()
    results: Any = recorded.profiler and recorded.profiler.kineto_results
    events = sorted(
        (event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]"
    )
    allocated = peak = 0
    for _, change in events:
        allocated += change
        peak = max(peak, allocated)
    return peak


def machine(device: torch.device) -> dict[str, Any]:
    """Return facts about the machine, on which the times depend besides the code."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        allocator_name = f"{torch.cuda.get_allocator_backend()} of torch"
    else:
        name, allocator_name = (
            _processor(),
            allocator() + (", freed memory kept" if keeps_freed_memory() else ""),
        )
    settings = {
        key: value
        for key, value in sorted(os.environ.items())
        if key.startswith(("MALLOC_", "PYTORCH_", "OMP_", "KMP_", "MKL_")) or key == "GLIBC_TUNABLES"
    }
    return {
        "device": str(device),
        "processor": name,
        "threads": torch.get_num_threads(),
        "allocator": allocator_name,
        "settings": settings,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0]}, {os.cpu_count()} cores" if models else platform.processor() or platform.machine()
