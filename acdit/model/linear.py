"""Linear layers: in float32 on the CPU by oneDNN's kernels, where those that torch takes need more time."""

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
    """`torch.nn.Linear`, by `linear`; called with what else is asked of it, so that hooks see every use."""

    def forward(self, input: Tensor, *, skip: int = 0, gelu: bool = False) -> Tensor:
        """The outputs after the first `skip` ones; `gelu` as in `linear`."""
        weight, bias = self.weight, self.bias
        if skip:
            weight, bias = weight[skip:], None if bias is None else bias[skip:]
        return linear(input, weight, bias, gelu=gelu)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """x (.., I) by weight (O, I) transposed, plus bias (O,): (.., O); on request GELU of that, by tanh."""
    if not _by_onednn(x, weight):
        output: Any = F.linear(x, weight, bias)
    elif torch.is_grad_enabled():
        output = _Linear.apply(x, weight, bias)  # GELU apart: its backward pass needs what it was given
    else:
        return _product(x, weight, bias, gelu)
    return gelu_tanh(output) if gelu else output


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by tanh; compiled by the logistic function, which is the same and has faster code on a CPU.

    tanh(u) = 2 sigmoid(2 u) - 1, with u = sqrt(2 / pi) (x + 0.044715 x^3).
    """
    if not torch.compiler.is_compiling():
        return F.gelu(x, approximate="tanh")
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    doubled = 2 * math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    return (wide * torch.sigmoid(doubled)).to(x.dtype)


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()  # which chooses for itself
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.numel() * len(weight) >= _least(torch.is_grad_enabled())
        and type(weight) in (Tensor, nn.Parameter)
        and not torch.is_autocast_enabled("cpu")
    )


@lru_cache(maxsize=2)
def _least(learning: bool) -> float:
    """Multiplications from which on oneDNN takes less time, on x86; torch's own choice stands elsewhere.

    Torch takes MKL, whose calls cost less by themselves. On processors of others than Intel its products
    run at two thirds of oneDNN's rate; on Intel's oneDNN wins for few rows by large weights alone, as
    sampling has them (docs/log.md).
    """
    if not torch.backends.mkldnn.is_available() or "AVX" not in torch.backends.cpu.get_cpu_capability():
        return math.inf
    facts = Path("/proc/cpuinfo")
    if "GenuineIntel" in (facts.read_text() if facts.exists() else platform.processor()):
        return math.inf if learning else 2**23
    return 2**20


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    after = ("gelu", [], "tanh") if gelu else ("none", [], "")
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *after)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            # turned round first: oneDNN is slower on a weight that lies transposed
            _product(grad, weight.t().contiguous(), None) if for_x else None,
            rows.t() @ x.reshape(-1, x.shape[-1]) if for_weight else None,
            rows.sum(0) if for_bias else None,
        )
