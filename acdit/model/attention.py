"""Exact Skip-Causal Attention (section 4.2): one function, `attend`, for several backends."""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from ..utils.tracing import allow_variants, is_tracing, tensor_cache
from .skip_causal_mask import Visibility, dense_mask, predicate, view_visibility
from .split_attention import joined, split_attention

Backend = Literal["dense", "split", "flex"]
BACKENDS: tuple[Backend, ...] = ("dense", "split", "flex")

# Number of tokens up to which query blocks are joined into one group. A few calls with masks are faster than
# many small calls without masks.
GROUP_TOKENS = 256

FLEX_HEAD_DIM = 16  # smallest dimension of a head that compiled FlexAttention supports


def attend(
    query: Tensor,
    clean: tuple[Tensor, Tensor] | None,
    own: tuple[Tensor, Tensor] | None,
    visibility: Visibility,
    backend: Backend = "split",
    group_tokens: int = GROUP_TOKENS,
    block_mask: BlockMask | None = None,
) -> Tensor:
    """Compute softmax attention of one stream of query blocks under SCAM, with scale 1 / sqrt(D).

    Args:
        query: Queries (N, H, Q, D), where Q = query blocks x tokens per block.
        clean: Keys and values of the clean blocks, two of (N, H, clean x tokens per block, D); None if there
            are no clean blocks.
        own: Keys and values of the stream itself, two of (N, H, Q, D), if `visibility.own` is true.
        visibility: Keys that each query block sees.
        backend: `dense` (one masked call, the reference), `split` (several calls, masks only on small
            pieces) or `flex` (FlexAttention).
        group_tokens: Number of tokens up to which `split` joins query blocks into one piece.
        block_mask: Mask of the same `visibility` for `flex`, see `block_mask_for`; None = it is made here.

    Returns:
        Attention output (N, H, Q, D).
    """
    if backend == "split":
        return split_attention(query, clean, own, visibility, group_tokens)
    key, value = joined([source for source in (clean, own) if source is not None])
    if backend == "dense":
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=dense_mask(visibility, query.device)
        )
    kernel = _compiled_flex() if query.is_cuda else flex_attention
    output = kernel(query, key, value, block_mask=block_mask or _flex_mask(visibility, query.device))
    assert isinstance(output, Tensor)  # a single tensor, because no log-sum-exp was requested
    return output


def block_mask_for(visibility: Visibility | None, backend: Backend, device: torch.device) -> BlockMask | None:
    """Return the mask that `attend` uses for `flex`; None for other backends, and without a visibility.

    Made once per call of the network, it serves all layers: compiled layers would each make one anew.
    """
    return _flex_mask(visibility, device) if visibility is not None and backend == "flex" else None


def supports(backend: Backend, device: torch.device, training: bool) -> bool:
    """Return whether a backend works on a device.

    FlexAttention has a backward pass only on CUDA.
    """
    return backend != "flex" or not training or device.type == "cuda"


def check_backend(backend: str, device: torch.device, training: bool) -> Backend:
    """Return the backend with this name, or raise ValueError if it is unknown or cannot be used.

    The error lists the alternatives; no other backend is substituted silently.
    """
    if backend not in BACKENDS:
        raise ValueError(f"attention backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if not supports(backend, device, training):
        raise ValueError(
            f"FlexAttention has no backward pass on {device.type}; use 'split', or train on cuda"
        )
    return backend


def default_backend(device: torch.device, head_dim: int = FLEX_HEAD_DIM) -> Backend:
    """Return `flex` for training on a CUDA device where it agrees with one dense call, else `split`.

    The forward and the backward pass are compared. Compiled FlexAttention has computed wrong gradients for
    masks like this one (pytorch issue 158212), so it is checked once. A tracer gets `split`, because nothing
    can be compared while it follows the operations. So do calls without gradients: a block with cached keys
    needs no mask, and FlexAttention would be compiled for seconds first.
    """
    suited = device.type == "cuda" and head_dim >= FLEX_HEAD_DIM and torch.is_grad_enabled()
    return "flex" if suited and not is_tracing() and _flex_agrees(device) else "split"


@lru_cache(maxsize=4)
def _flex_agrees(device: torch.device) -> bool:
    return agrees(disagreement("flex", device), device)


def agrees(error: float, device: torch.device) -> bool:
    """Return whether a relative error can be explained by rounding.

    Rounding is that of float32 on the CPU, and elsewhere that of TF32, which is about 1e-3. The known bug of
    FlexAttention causes errors of order one.
    """
    return error < (1e-4 if device.type == "cpu" else 1e-2)


def disagreement(backend: Backend, device: torch.device, backward: bool = True) -> float:
    """Return the largest relative error of a backend against one dense call on the CPU.

    The output is compared and, with `backward`, the gradients.
    """
    generator = torch.Generator().manual_seed(0)
    visibility = view_visibility(128, (0, 1, 3, 4))
    backends: tuple[tuple[Backend, torch.device], ...] = ("dense", torch.device("cpu")), (backend, device)
    results = []
    # whatever the caller computes in: without gradients, in bf16, on another default device
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(backward),
        torch.autocast("cpu", enabled=False),
        torch.autocast(device.type, enabled=False),
        torch.device("cpu"),
    ):
        tensors = [torch.randn(1, 2, 4 * 128, 64, generator=generator, dtype=torch.float32) for _ in range(5)]
        for name, target_device in backends:
            query, *keys = (
                tensor.to(target_device, copy=True).requires_grad_(backward) for tensor in tensors
            )
            output = attend(query, (keys[0], keys[1]), (keys[2], keys[3]), visibility, name)
            gradients = torch.autograd.grad(output.square().sum(), [query, *keys]) if backward else ()
            results.append([each.detach().cpu() for each in (output, *gradients)])
    return max(float((a - b).norm() / a.norm()) for a, b in zip(*results, strict=True))


@tensor_cache(maxsize=64)
def _flex_mask(visibility: Visibility, device: torch.device) -> BlockMask:
    sees, queries, keys = predicate(visibility, device)
    return create_block_mask(lambda n, h, q, k: sees(q, k), None, None, queries, keys, device=device)


@lru_cache(maxsize=1)
def _compiled_flex() -> Callable[..., Tensor]:
    allow_variants()
    return torch.compile(flex_attention)
