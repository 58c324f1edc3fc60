"""Measurements of this machine: seconds of a run, and the best rate of matrix products."""

import time
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product

import torch
from torch import Tensor

from .linear import linear

# Numbers of FLOPs timed at once, on the CPU and on accelerators. Products are repeated to reach them,
# so that neither the resolution of the clock nor the time to start the first product matters.
FLOPS_AT_ONCE = 2e8
ACCELERATOR_FLOPS_AT_ONCE = 5e11

# Batch, rows, inner and columns of a product of (batch, rows, inner) by (batch, columns, inner) transposed.
Product = tuple[int, int, int, int]


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    """Return the wall-clock seconds of a run, including the work that it started on the device."""
    synchronise(device)
    started = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: torch.device) -> None:
    """Wait until an accelerator has finished the work that was started on it."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


class MatmulRate:
    """Measurement of the rate of matrix products of some shapes; `best` is the highest rate so far.

    Args:
        products: Shapes of the products.
        dtype: Data type of the operands.
        device: Device of the operands.
    """

    def __init__(self, products: Sequence[Product], dtype: torch.dtype, device: torch.device):
        self.best = 0.0  # FLOP/s
        self._operands: list[tuple[Tensor, Tensor]] = []
        generator = torch.Generator().manual_seed(0)  # not constants, on which accelerators run faster
        for batch, rows, inner, columns in products:
            shapes = ((batch, rows, inner), (batch, columns, inner))
            left, right = (torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)
            self._operands.append((left, right) if batch > 1 else (left[0], right[0]))

    def measure(self) -> None:
        """Time each product once more, with the kernels of training and with those of sampling."""
        for (left, right), training in product(self._operands, (True, False)):
            flops = 2 * left.numel() * right.shape[-2]
            at_once = FLOPS_AT_ONCE if left.device.type == "cpu" else ACCELERATOR_FLOPS_AT_ONCE
            times = int(at_once // flops) + 1

            def run(left: Tensor = left, right: Tensor = right, times: int = times) -> None:
                for _ in range(times):
                    torch.matmul(left, right.mT) if left.ndim > 2 else linear(left, right)

            with torch.set_grad_enabled(training):  # the operands need no gradient
                seconds = seconds_of(run, left.device)
            self.best = max(self.best, times * flops / seconds)


def best_rate(products: Sequence[Product], dtype: torch.dtype, device: torch.device, times: int = 5) -> float:
    """Return the best rate of `times` measurements of a `MatmulRate`, in FLOP/s, and free its operands."""
    rate = MatmulRate(products, dtype, device)
    for _ in range(times):
        rate.measure()
    return rate.best


@cache  # a process may train many runs
def square_rate(side: int, dtype: torch.dtype, device: torch.device) -> float:
    """Return the best rate of products of square matrices, in FLOP/s; measured once in a process."""
    return best_rate([(1, side, side, side)], dtype, device)
