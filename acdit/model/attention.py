"""One door to the backends that compute Skip-Causal Attention (section 4.2) exactly."""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from .skip_causal_mask import Visibility, dense_mask, predicate, view_visibility
from .split_attention import joined, split_attention

Backend = Literal["dense", "split", "flex"]
BACKENDS: tuple[Backend, ...] = ("dense", "split", "flex")

# Query blocks are grouped until they hold this many tokens: few masked pieces beat many small exact ones.
GROUP_TOKENS = 256


def attend(
    query: Tensor,
    clean: tuple[Tensor, Tensor] | None,
    own: tuple[Tensor, Tensor] | None,
    visibility: Visibility,
    backend: Backend = "split",
    group_tokens: int = GROUP_TOKENS,
) -> Tensor:
    """Softmax attention of one stream of query blocks under SCAM, scale 1 / sqrt(D).

    Args:
        query: (N, H, Q, D), Q = query blocks x tokens a block.
        clean: keys and values of the clean blocks, two of (N, H, clean x tokens a block, D); None if there
            are none.
        own: keys and values of the stream itself, two of (N, H, Q, D), where `visibility.own`.
        visibility: who sees whom.
        backend: `dense` (one masked call, the reference), `split` (masks on small pieces alone), `flex`
            (FlexAttention).
        group_tokens: `split` joins query blocks up to this many tokens into one piece.

    Returns:
        (N, H, Q, D)
    """
    if backend == "split":
        return split_attention(query, clean, own, visibility, group_tokens)
    key, value = joined([source for source in (clean, own) if source is not None])
    if backend == "dense":
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=dense_mask(visibility, query.device)
        )
    kernel = _compiled_flex() if query.is_cuda else flex_attention
    output = kernel(query, key, value, block_mask=_flex_mask(visibility, query.device))
    assert isinstance(output, Tensor)  # no log-sum-exp was asked for
    return output


def supports(backend: Backend, device: torch.device, training: bool) -> bool:
    """Whether a backend works on a device; FlexAttention has a backward pass on CUDA alone."""
    return backend != "flex" or not training or device.type == "cuda"


def check_backend(backend: str, device: torch.device, training: bool) -> Backend:
    """The backend by name, or an error that says what can be had: there is no silent switch."""
    if backend not in BACKENDS:
        raise ValueError(f"attention backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if not supports(backend, device, training):
        raise ValueError(
            f"FlexAttention has no backward pass on {device.type}; take 'split', or train on cuda"
        )
    return backend


@lru_cache(maxsize=4)
def default_backend(device: torch.device) -> Backend:
    """flex on a CUDA device where it agrees with one dense call on the CPU, forward and backward, else split.

    Compiled FlexAttention has given wrong gradients for masks like this one (pytorch issue 158212), so it is
    checked once.
    """
    return "flex" if device.type == "cuda" and agrees(disagreement("flex", device), device) else "split"


def agrees(error: float, device: torch.device) -> bool:
    """Whether a relative error is rounding: float32's on the CPU, elsewhere TF32's, which is of 1e-3.

    The known fault of FlexAttention is of order one.
    """
    return error < (1e-4 if device.type == "cpu" else 1e-2)


def disagreement(backend: Backend, device: torch.device, backward: bool = True) -> float:
    """The largest relative error of a backend, output and gradients, against one dense call on the CPU."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(1, 2, 4 * 128, 64, generator=generator) for _ in range(5)]
    visibility = view_visibility(128, (0, 1, 3, 4))
    contenders: tuple[tuple[Backend, torch.device], ...] = ("dense", torch.device("cpu")), (backend, device)
    results = []
    for name, place in contenders:
        query, *keys = (tensor.to(place, copy=True).requires_grad_(backward) for tensor in tensors)
        output = attend(query, (keys[0], keys[1]), (keys[2], keys[3]), visibility, name)
        found = torch.autograd.grad(output.square().sum(), [query, *keys]) if backward else ()
        results.append([each.detach().cpu() for each in (output, *found)])
    return max(float((a - b).norm() / a.norm()) for a, b in zip(*results, strict=True))


@lru_cache(maxsize=64)
def _flex_mask(visibility: Visibility, device: torch.device) -> BlockMask:
    with torch.inference_mode(False):
        sees, queries, keys = predicate(visibility, device)
        return create_block_mask(lambda n, h, q, k: sees(q, k), None, None, queries, keys, device=device)


@lru_cache(maxsize=1)
def _compiled_flex() -> Callable[..., Tensor]:
    return torch.compile(flex_attention)
