"""Norms, modulation and rotation as single operations: few passes over memory, forward and backward.

Autograd would keep every intermediate tensor. These operations keep their input and one number per token, and
compute in at least float32.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .rope import RopeTable

# x and a weight to x / rms and 1 / rms, as F.rms_norm does it; torch 2.7 does not have it
FUSED_NORM: Any = getattr(torch.ops.aten, "_fused_rms_norm", None)


def modulated_norm(
    x: Tensor, weight: Tensor, eps: float, scale: Tensor | None = None, shift: Tensor | None = None
) -> Tensor:
    """Apply RMSNorm over the last axis, then (1 + scale) and shift (adaLN, section 4.5).

    Args:
        x: Tokens (R, B, hidden).
        weight: Weight of the norm (hidden,).
        eps: Constant that is added to the mean square.
        scale: Scale vectors (R, 1, hidden); None if there is no modulation.
        shift: Shift vectors (R, 1, hidden); None if there is no modulation.
    """
    if torch.compiler.is_compiling():
        return _plain_modulated(x, weight, eps, scale, shift)
    if not torch.is_grad_enabled():
        if x.itemsize == 2 and _has_fused_norm(x):
            # half as many passes over memory; the kernel computes in float32, and its result is rounded too
            unit = FUSED_NORM(x, x.shape[-1:], None, eps)[0]
            if scale is None or shift is None:
                return unit.mul_(weight)
            return torch.addcmul(shift, unit, weight * (1 + scale)).to(x.dtype)
        return _modulated(x, weight, eps, scale, shift)[0]
    output: Any = _ModulatedNorm.apply(x, weight, eps, scale, shift)
    return output


def norm_and_rotate(x: Tensor, weights: Tensor, eps: float, rope: RopeTable) -> Tensor:
    """Apply RMSNorm over the head dimension, then rotation: (R, B, K, H, D) -> (K, R, B, H, D).

    Args:
        x: Queries and keys (K = 2), or only keys (K = 1).
        weights: Weights of the norms (K, D).
        eps: Constant that is added to the mean square.
        rope: Rotary tables of the R blocks.
    """
    if torch.compiler.is_compiling():
        return _plain_rotated(x, weights, eps, rope)
    if not torch.is_grad_enabled():
        return _rotated(x, weights, eps, rope)[0]
    output: Any = _NormAndRotate.apply(x, weights, eps, *rope)
    return output


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    """Return 1 / sqrt(mean square + eps) over the last axis, which is kept with length 1."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()


def _plain_modulated(
    x: Tensor, weight: Tensor, eps: float, scale: Tensor | None, shift: Tensor | None
) -> Tensor:
    """Compute `modulated_norm` by operations that the compiler differentiates and joins by itself.

    The compiler of torch 2.11 gives wrong gradients, without a word, for operations with their own backward.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    unit = wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    if scale is None or shift is None:
        return (unit * weight).to(x.dtype)
    return (unit * (weight * (1 + scale)) + shift).to(x.dtype)


def _plain_rotated(x: Tensor, weights: Tensor, eps: float, rope: RopeTable) -> Tensor:
    """Compute `norm_and_rotate` like `_plain_modulated`."""
    wide = x.movedim(2, 0).to(rope.cos.dtype)  # (K, R, B, H, D)
    unit = wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    return rope.rotate(unit * _per_head(weights)).to(x.dtype)


def _has_fused_norm(x: Tensor) -> bool:
    """Return whether one kernel normalises x and returns 1 / rms: on CUDA, where starting each is costly."""
    return x.is_cuda and FUSED_NORM is not None


def _modulated(
    x: Tensor, weight: Tensor, eps: float, scale: Tensor | None, shift: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the output of `modulated_norm`, and 1 / rms."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if _has_fused_norm(wide):
        output, inverse = FUSED_NORM(wide, wide.shape[-1:], None, eps)
    else:
        inverse = _inverse_rms(wide, eps)
        output = wide * inverse
    if scale is None or shift is None:
        output.mul_(weight)
    else:
        torch.addcmul(shift, output, weight * (1 + scale), out=output)
    return output.to(x.dtype), inverse


def _rotated(x: Tensor, weights: Tensor, eps: float, rope: RopeTable) -> tuple[Tensor, Tensor]:
    """Return the output of `norm_and_rotate`, and 1 / rms."""
    reordered = x.movedim(2, 0)  # (K, R, B, H, D)
    unit = torch.empty(reordered.shape, dtype=rope.cos.dtype, device=x.device)  # contiguous in this order
    if _has_fused_norm(unit):
        unit, inverse = FUSED_NORM(unit.copy_(reordered), unit.shape[-1:], None, eps)
    else:
        inverse = _inverse_rms(reordered.to(rope.cos.dtype), eps)
        torch.mul(reordered, inverse, out=unit)
    unit.mul_(_per_head(weights))
    return rope.rotate(unit).to(x.dtype), inverse


def _norm_gradient(grad: Tensor, unit: Tensor, product: Tensor, inverse: Tensor) -> Tensor:
    """Return the gradient of x in unit = x * inverse, from that of `unit` (changed in place).

    Args:
        grad: Gradient of `unit`.
        unit: Normalised x.
        product: Sum of grad * unit over the last axis, which is kept.
        inverse: 1 / rms.
    """
    return grad.addcmul_(unit, product, value=-1 / unit.shape[-1]).mul_(inverse)


class _ModulatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, eps: float, scale: Tensor | None, shift: Tensor | None
    ) -> Tensor:
        output, inverse = _modulated(x, weight, eps, scale, shift)
        ctx.save_for_backward(x, weight, scale, inverse)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, scale, inverse = ctx.saved_tensors
        grad = grad.to(inverse.dtype)
        unit = x * inverse
        grad_factor = (grad * unit).sum(1, keepdim=True)  # (R, 1, hidden)
        grad_scale = grad_shift = None
        if scale is None:
            factor, grad_weight = weight, grad_factor.sum((0, 1))
        else:
            factor, grad_weight = weight * (1 + scale), (grad_factor * (1 + scale)).sum((0, 1))
            grad_scale, grad_shift = (
                (grad_factor * weight).to(scale.dtype),
                grad.sum(1, keepdim=True).to(scale.dtype),
            )
        inner = grad * factor
        product = (inner * unit).sum(-1, keepdim=True)
        grad_x = _norm_gradient(inner, unit, product, inverse)
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), None, grad_scale, grad_shift


class _NormAndRotate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weights: Tensor,
        eps: float,
        cos: Tensor,
        sin: Tensor,
        segments: tuple[int, ...],
    ) -> Tensor:
        output, inverse = _rotated(x, weights, eps, RopeTable(cos, sin, segments))
        ctx.save_for_backward(x, weights, inverse, cos, sin)
        ctx.segments = segments
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weights, inverse, cos, sin = ctx.saved_tensors
        inner = RopeTable(cos, sin, ctx.segments).rotate_gradient(grad)
        unit = torch.mul(x.movedim(2, 0), inverse, out=torch.empty_like(inner))
        product = inner * unit
        grad_weights = product.sum((1, 2, 3))
        inner.mul_(_per_head(weights))
        product = product.mul_(_per_head(weights)).sum(-1, keepdim=True)
        grad_x = _norm_gradient(inner, unit, product, inverse)
        return grad_x.movedim(0, 2).to(x.dtype), grad_weights.to(weights.dtype), None, None, None, None


def _per_head(weights: Tensor) -> Tensor:
    return weights[:, None, None, None]  # (K, 1, 1, 1, D)
