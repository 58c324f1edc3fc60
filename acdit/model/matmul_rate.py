"""What this machine reaches: seconds of a run, and the best rate of matrix products."""

import time
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor

from .linear import linear

# A product is repeated until so many FLOPs are timed at once, or the grain of the clock would show.
FLOPS_AT_ONCE = 2e8

# Batch, rows, inner and columns of (batch, rows, inner) by (batch, columns, inner) transposed.
Product = tuple[int, int, int, int]


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds of a run, to the end of what it started on the device."""
    synchronise(device)
    started = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: torch.device) -> None:
    """Wait for what was started on an accelerator."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class MatmulRate:
    """Measures the rate of matrix products of some shapes, and remembers the best.

    Args:
        products: their shapes.
        dtype, device: of the operands.
    """

    def __init__(self, products: Sequence[Product], dtype: torch.dtype, device: torch.device):
        self.best = 0.0  # FLOP/s
        self._operands: list[tuple[Tensor, Tensor]] = []
        drawn = torch.Generator().manual_seed(0)  # noise: accelerators multiply constants at higher clocks
        for batch, rows, inner, columns in products:
            shapes = ((batch, rows, inner), (batch, columns, inner))
            left, right = (torch.randn(shape, generator=drawn).to(device, dtype) for shape in shapes)
            self._operands.append((left, right) if batch > 1 else (left[0], right[0]))

    def measure(self) -> None:
        """Time each product once more, by the kernels of training and by those of sampling."""
        for (left, right), learning in product(self._operands, (True, False)):
            flops = 2 * left.numel() * right.shape[-2]
            times = int(FLOPS_AT_ONCE // flops) + 1

            def run(left: Tensor = left, right: Tensor = right, times: int = times) -> None:
                for _ in range(times):
                    torch.matmul(left, right.mT) if left.ndim > 2 else linear(left, right)

            with torch.set_grad_enabled(learning):  # of operands that need no gradient
                seconds = seconds_of(run, left.device)
            self.best = max(self.best, times * flops / seconds)


def best_rate(products: Sequence[Product], dtype: torch.dtype, device: torch.device, times: int = 5) -> float:
    """The best of so many measurements of a `MatmulRate`, in FLOP/s; its operands are freed."""
    rate = MatmulRate(products, dtype, device)
    for _ in range(times):
        rate.measure()
    return rate.best
