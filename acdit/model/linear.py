"""Linear layers that use oneDNN's kernels for float32 on the CPU, where torch's own choice is slower."""

import math
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Linear(nn.Linear):
    """`torch.nn.Linear` that is computed by `linear`.

    `skip` and `gelu` are arguments of the call, so that hooks see every use of the layer.
    """

    def forward(self, input: Tensor, *, skip: int = 0, gelu: bool = False) -> Tensor:
        """Compute the outputs after the first `skip` ones; `gelu` is as in `linear`."""
        weight, bias = self.weight, self.bias
        if skip:
            weight, bias = weight[skip:], None if bias is None else bias[skip:]
        return linear(input, weight, bias, gelu=gelu)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """Multiply x (.., I) by the transposed weight (O, I) and add the bias (O,): (.., O).

    With `gelu`, the result is passed through GELU (tanh approximation).
    """
    if not _uses_onednn(x, weight):
        output: Any = F.linear(x, weight, bias)
    elif torch.is_grad_enabled():
        output = _Linear.apply(x, weight, bias)  # GELU is separate: its backward pass needs its input
    else:
        return _product(x, weight, bias, gelu)
    return gelu_tanh(output) if gelu else output


def gelu_tanh(x: Tensor) -> Tensor:
    """Compute the tanh approximation of GELU.

    When compiled, it uses the logistic function, which gives the same values and has faster code on a CPU:
    tanh(u) = 2 sigmoid(2 u) - 1, with u = sqrt(2 / pi) (x + 0.044715 x^3).
    """
    if not torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    doubled = 2 * math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    return (wide * torch.sigmoid(doubled)).to(x.dtype)


def _uses_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()  # the compiler makes its own choice
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.numel() * len(weight) >= _min_multiplications(torch.is_grad_enabled())
        and type(weight) in (Tensor, nn.Parameter)
        and not torch.is_autocast_enabled("cpu")
    )


@lru_cache(maxsize=2)
def _min_multiplications(training: bool) -> float:
    """Return the smallest number of multiplications for which oneDNN is faster, on x86.

    Elsewhere the result is infinite, so that torch's own choice is used. Torch uses MKL, whose calls have
    less overhead. On processors that are not from Intel, products of MKL reach two thirds of oneDNN's rate.
    On Intel's, oneDNN is faster only for products of few rows by large weights, as in sampling (docs/log.md).
    """
    if not torch.backends.mkldnn.is_available() or "AVX" not in torch.backends.cpu.get_cpu_capability():
        return math.inf
    cpu_info = Path("/proc/cpuinfo")
    if "GenuineIntel" in (cpu_info.read_text() if cpu_info.exists() else platform.processor()):
        return math.inf if training else 2**23
    return 2**20


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    activation = ("gelu", [], "tanh") if gelu else ("none", [], "")
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *activation)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            # made contiguous first: oneDNN is slower on a weight that is transposed in memory
            _product(grad, weight.t().contiguous(), None) if needs_x else None,
            rows.t() @ x.reshape(-1, x.shape[-1]) if needs_weight else None,
            rows.sum(0) if needs_bias else None,
        )
