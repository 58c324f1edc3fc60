"""Skip-Causal Attention (section 4.2) as one predicate, and the backends that compute it exactly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

Backend = Literal["dense", "split", "flex"]
BACKENDS: tuple[Backend, ...] = ("dense", "split", "flex")

# Query blocks are grouped until they hold this many tokens: few masked pieces beat many small exact ones.
GROUP_TOKENS = 256


@dataclass(frozen=True)
class Visibility:
    """Which keys the query blocks of one stream see: clean blocks 0..clean-1, then the stream's own.

    A query block with the limit b sees clean blocks j < b (with a window w also j >= its index - w, or j <
    sinks), and with `own` also itself, in full: a clean block i has the limit i + 1 and finds itself among
    the clean keys; a noised view of block i has the limit i and brings its own keys.
    """

    block_tokens: int
    clean: int
    limits: tuple[int, ...]
    own: bool
    window: int | None = None
    sinks: int = 0

    def first(self, limit: int) -> int:
        """The first clean block inside the window of a query block."""
        index = limit if self.own else limit - 1
        return 0 if self.window is None else max(0, index - self.window)


def clean_visibility(
    block_tokens: int, start: int, stop: int, window: int | None = None, sinks: int = 0
) -> Visibility:
    """Clean blocks start..stop-1 ask, clean blocks 0..stop-1 answer: c_i sees c_j for j <= i."""
    return Visibility(block_tokens, stop, tuple(range(start + 1, stop + 1)), False, window, sinks)


def view_visibility(
    block_tokens: int, blocks: Sequence[int], window: int | None = None, sinks: int = 0
) -> Visibility:
    """Noised views ask: n_i sees c_j for j < i, and itself."""
    return Visibility(block_tokens, max(blocks), tuple(blocks), True, window, sinks)


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
        return _split(query, clean, own, visibility, group_tokens)
    key, value = _joined([source for source in (clean, own) if source is not None])
    if backend == "dense":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=_mask(visibility, query.device))
    kernel = _compiled_flex() if query.is_cuda else flex_attention
    output = kernel(query, key, value, block_mask=_flex_mask(visibility, query.device))
    assert isinstance(output, Tensor)  # no log-sum-exp was asked for
    return output


def check_backend(backend: str, device: torch.device, training: bool) -> Backend:
    """The backend by name, or an error that says what can be had: there is no silent switch."""
    if backend not in BACKENDS:
        raise ValueError(f"attention backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if backend == "flex" and training and device.type != "cuda":
        raise ValueError(
            f"FlexAttention has no backward pass on {device.type}; take 'split', or train on cuda"
        )
    return backend


@lru_cache(maxsize=4)
def default_backend(device: torch.device) -> Backend:
    """flex on a CUDA device where it agrees with split, forward and backward; split everywhere else.

    Compiled FlexAttention has given wrong gradients for masks like this one (pytorch issue 158212), so it is
    checked once.
    """
    if device.type != "cuda":
        return "split"
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(1, 2, 4 * 128, 64, generator=generator).to(device) for _ in range(5)]
    visibility = view_visibility(128, (0, 1, 3, 4))
    results = []
    for backend in ("split", "flex"):
        query, *keys = (tensor.clone().requires_grad_() for tensor in tensors)
        output = attend(query, (keys[0], keys[1]), (keys[2], keys[3]), visibility, backend)
        results.append([output, *torch.autograd.grad(output.square().sum(), [query, *keys])])
    errors = [float((a - b).norm() / a.norm()) for a, b in zip(*results, strict=True)]
    return "flex" if max(errors) < 1e-2 else "split"  # TF32 rounds at 1e-3; the known fault is of order one


def _split(
    query: Tensor,
    clean: tuple[Tensor, Tensor] | None,
    own: tuple[Tensor, Tensor] | None,
    visibility: Visibility,
    group_tokens: int,
) -> Tensor:
    """Calls over just the keys that each group of query blocks sees; a mask only where a group disagrees."""
    tokens = visibility.block_tokens
    outputs = []
    for piece in _pieces(visibility, group_tokens):
        rows = slice(piece.start * tokens, piece.stop * tokens)
        sources = [(clean, slice(low * tokens, high * tokens)) for low, high in piece.clean]
        if visibility.own:
            sources.append((own, rows))
        key, value = _joined(
            [(source[0][:, :, span], source[1][:, :, span]) for source, span in sources if source is not None]
        )
        mask = _mask(piece.visibility, query.device) if piece.masked else None
        outputs.append(F.scaled_dot_product_attention(query[:, :, rows], key, value, attn_mask=mask))
    return torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]


def _joined(sources: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Keys and values of several sources, one behind the other; no copy of a single one."""
    if len(sources) == 1:
        return sources[0]
    keys, values = zip(*sources, strict=True)
    return torch.cat(keys, dim=2), torch.cat(values, dim=2)


@dataclass(frozen=True)
class _Piece:
    """Query blocks start..stop-1 against spans of clean blocks, and the predicate among just these."""

    start: int
    stop: int
    clean: tuple[tuple[int, int], ...]
    visibility: Visibility
    masked: bool


@lru_cache(maxsize=256)
def _pieces(visibility: Visibility, group_tokens: int) -> tuple[_Piece, ...]:
    size = max(1, group_tokens // visibility.block_tokens)
    pieces = []
    for start in range(0, len(visibility.limits), size):
        limits = visibility.limits[start : start + size]
        low, high = visibility.first(min(limits)), max(limits)
        sinks = min(visibility.sinks, low)
        spans = tuple((a, b) for a, b in ((0, sinks), (low, high)) if a < b)
        # The piece's clean keys are the sinks, then low..high-1: shifted down by what lies between.
        shift = low - sinks
        inner = Visibility(
            visibility.block_tokens,
            high - shift,
            tuple(limit - shift for limit in limits),
            visibility.own,
            visibility.window,
            sinks if shift else visibility.sinks,
        )
        pieces.append(_Piece(start, start + len(limits), spans, inner, masked=len(limits) > 1))
    return tuple(pieces)


def _predicate(visibility: Visibility, device: torch.device) -> tuple[Callable[..., Tensor], int, int]:
    """The SCAM predicate on token indices (broadcastable), with the numbers of queries and keys."""
    tokens, blocks = visibility.block_tokens, len(visibility.limits)
    # Index tensors, not constants: a compiled mask function then serves every subset of as many blocks.
    limit = torch.tensor(visibility.limits, device=device)
    first = torch.tensor([visibility.first(limit) for limit in visibility.limits], device=device)
    clean, sinks = visibility.clean, visibility.sinks

    def sees(query: Tensor, key: Tensor) -> Tensor:
        asking, answering = query // tokens, key // tokens
        past = (answering < limit[asking]) & ((answering >= first[asking]) | (answering < sinks))
        return ((answering < clean) & past) | (answering == asking + clean)

    return sees, blocks * tokens, (clean + blocks * visibility.own) * tokens


@lru_cache(maxsize=64)
def _mask(visibility: Visibility, device: torch.device) -> Tensor:
    """(Q, K) boolean, true where the query sees the key."""
    with torch.inference_mode(False):  # the cached mask must serve training too
        sees, queries, keys = _predicate(visibility, device)
        return sees(torch.arange(queries, device=device)[:, None], torch.arange(keys, device=device)[None])


@lru_cache(maxsize=64)
def _flex_mask(visibility: Visibility, device: torch.device) -> BlockMask:
    with torch.inference_mode(False):
        sees, queries, keys = _predicate(visibility, device)
        return create_block_mask(lambda n, h, q, k: sees(q, k), None, None, queries, keys, device=device)


@lru_cache(maxsize=1)
def _compiled_flex() -> Callable[..., Tensor]:
    return torch.compile(flex_attention)
