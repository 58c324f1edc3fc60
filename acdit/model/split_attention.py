"""Split backend: exact SCAM by calls over the visible keys, with masks only where the queries differ.

On the CPU the results of the calls are merged by their log-sum-exps, so that no key is copied, and the
backward pass adds to one preallocated gradient: slices under autograd would cost zero tensors of full size.
On other devices, and if there are few keys, the keys are joined, and autograd computes the backward pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..utils.tracing import tensor_cache
from .skip_causal_mask import Visibility, dense_mask

Pair = tuple[Tensor, Tensor]
ACCELERATOR_GROUP_TOKENS = 1024  # accelerators start few large calls faster than many small ones

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def split_attention(
    query: Tensor, clean: Pair | None, own: Pair | None, visibility: Visibility, group_tokens: int
) -> Tensor:
    """Compute attention as defined by `attend`, with query blocks in groups of up to `group_tokens` tokens.

    If there are at most `group_tokens` keys, own keys counted twice, one masked call is faster than many
    small ones.
    """
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        # the CPU's backward pass takes three times as long in bf16, and each part would be rounded separately
        clean, own = (pair and (pair[0].float(), pair[1].float()) for pair in (clean, own))
        return split_attention(query.float(), clean, own, visibility, group_tokens).to(query.dtype)
    keys = visibility.clean + 2 * len(visibility.limits) * visibility.own
    if query.device.type not in ("cpu", "meta"):  # operations on `meta` are counted as those of the CPU
        group_tokens = max(group_tokens, ACCELERATOR_GROUP_TOKENS)
    size = max(1, group_tokens // visibility.block_tokens)
    if query.device.type != "cpu" or keys * visibility.block_tokens <= group_tokens:
        return _joined_groups(query, clean, own, visibility, size)
    arguments = (
        visibility.clean,
        visibility.limits,
        visibility.window,
        visibility.sinks,
        visibility.block_tokens,
    )
    output, _ = _merged(query, *(clean or (None, None)), *(own or (None, None)), *arguments, size)
    return output


@dataclass(frozen=True)
class _Part:
    """Query blocks start..stop-1, and clean blocks low..high-1 as their keys."""

    start: int
    stop: int
    low: int
    high: int
    sees: bytes  # whether each query block sees each clean block, row by row; empty if all see all

    def tokens(self, size: int) -> tuple[slice, slice]:
        """Return the slices of the queries and of the keys, for blocks of `size` tokens."""
        return slice(self.start * size, self.stop * size), slice(self.low * size, self.high * size)

    def mask(self, size: int, dtype: torch.dtype) -> Tensor | None:
        """Return the mask (queries, keys) that is added to the scores; None if all see all."""
        return _mask(self.sees, self.stop - self.start, size, dtype) if self.sees else None


@torch.library.custom_op("acdit::merged_attention", mutates_args=())
def _merged(
    query: Tensor,
    clean_key: Tensor | None,
    clean_value: Tensor | None,
    own_key: Tensor | None,
    own_value: Tensor | None,
    clean: int,
    limits: Sequence[int],
    window: int | None,
    sinks: int,
    block_tokens: int,
    group: int,
) -> tuple[Tensor, Tensor]:
    """Compute attention over parts of the keys and merge the results; return the output and its lse.

    The result of each part is weighted by exp(lse). This is an operator of torch, so that torch.compile
    calls it as it is and does not unroll its loop over parts.
    """
    visibility = Visibility(block_tokens, clean, tuple(limits), own_key is not None, window, sinks)
    if own_key is not None and own_value is not None:
        blocks = [_by_block(tensor, block_tokens) for tensor in (query, own_key, own_value)]  # (N M, H, B, D)
        output, lse = (_by_sample(tensor, len(query)) for tensor in _flash(*blocks))
    else:
        output = _zeros(query)
        lse = torch.full_like(_zeros(query[..., 0]), -torch.inf, dtype=_wide(query))  # (N, H, Q)
    if clean_key is not None and clean_value is not None:
        for part in _parts(visibility, group):
            rows, keys = part.tokens(block_tokens)
            queries, visible = query[:, :, rows], (clean_key[:, :, keys], clean_value[:, :, keys])
            part_output, part_lse = _flash(queries, *visible, attn_mask=part.mask(block_tokens, query.dtype))
            _merge(output[:, :, rows], lse[:, :, rows], part_output, part_lse)
    return output, lse


@_merged.register_fake
def _merged_shapes(query: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _zeros(query), _zeros(query[..., 0]).to(_wide(query))


@torch.library.custom_op("acdit::merged_attention_backward", mutates_args=())
def _merged_backward(
    grad: Tensor,
    query: Tensor,
    clean_key: Tensor | None,
    clean_value: Tensor | None,
    own_key: Tensor | None,
    own_value: Tensor | None,
    output: Tensor,
    lse: Tensor,
    clean: int,
    limits: Sequence[int],
    window: int | None,
    sinks: int,
    block_tokens: int,
    group: int,
) -> list[Tensor]:
    """Return the gradients of the query, then of the keys and values that are given.

    The backward pass of each part uses the merged output and log-sum-exp, so it returns the contribution of
    the part to the whole gradient.
    """
    visibility = Visibility(block_tokens, clean, tuple(limits), own_key is not None, window, sinks)
    grad_own: list[Tensor] = []
    if own_key is not None and own_value is not None:
        blocks = [_by_block(x, block_tokens) for x in (grad, query, own_key, own_value, output, lse)]
        grad_query, *grad_own = (
            _by_sample(part, len(query)) for part in _flash_backward(*blocks, 0.0, False)
        )
    else:
        grad_query = _zeros(query)
    grad_clean: list[Tensor] = []
    if clean_key is not None and clean_value is not None:
        grad_clean = [_zeros(clean_key), _zeros(clean_value)]
        for part in _parts(visibility, group):
            rows, keys = part.tokens(block_tokens)
            grad_and_query = grad[:, :, rows], query[:, :, rows]
            visible, part_output = (clean_key[:, :, keys], clean_value[:, :, keys]), output[:, :, rows]
            mask = part.mask(block_tokens, query.dtype)
            contributions = _flash_backward(
                *grad_and_query, *visible, part_output, lse[:, :, rows], 0.0, False, attn_mask=mask
            )
            targets = grad_query[:, :, rows], *(target[:, :, keys] for target in grad_clean)
            for target, contribution in zip(targets, contributions, strict=True):
                target += contribution
    return [grad_query, *grad_clean, *grad_own]


@_merged_backward.register_fake
def _merged_backward_shapes(_grad: Tensor, *rest: Any) -> list[Tensor]:
    return [_zeros(tensor) for tensor in rest[:5] if tensor is not None]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:5], *output)
    ctx.rest = inputs[5:]


def _gradients(ctx: Any, grad: Tensor, _grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once: under gradient checkpointing they cannot be read again
    gradients = iter(_merged_backward(grad, *saved, *ctx.rest))
    tensor_gradients = [None if tensor is None else next(gradients) for tensor in saved[:5]]
    return (*tensor_gradients, *[None] * len(ctx.rest))


_merged.register_autograd(_gradients, setup_context=_save)


def _merge(output: Tensor, lse: Tensor, part_output: Tensor, part_lse: Tensor) -> None:
    """Merge one more part into the output (.., Q, D) and its log-sum-exp (.., Q), in place."""
    weight = torch.sigmoid(part_lse - lse)
    output.lerp_(part_output, weight[..., None].to(output.dtype))
    torch.logaddexp(lse, part_lse, out=lse)


def _by_block(x: Tensor, size: int) -> Tensor:
    """Rearrange (N, H, M B, ..) into (N M, H, B, ..), so that views are separate."""
    return x.transpose(1, 2).unflatten(1, (-1, size)).flatten(0, 1).transpose(1, 2)


def _by_sample(x: Tensor, samples: int) -> Tensor:
    """Invert `_by_block`."""
    return x.transpose(1, 2).unflatten(0, (samples, -1)).flatten(1, 2).transpose(1, 2)


def _zeros(like: Tensor) -> Tensor:
    """Return zeros (N, H, Q, ..), in the memory order of the network's tensors: (N, Q, H, ..)."""
    return torch.zeros_like(like.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


@lru_cache(maxsize=256)
def _parts(visibility: Visibility, group: int) -> tuple[_Part, ...]:
    """Return the parts of queries and clean blocks, one call each.

    Each query of a part sees at least one of its keys.
    """
    parts = []
    for start in range(0, len(visibility.limits), group):
        limits = visibility.limits[start : start + group]
        spans = _spans(visibility, limits)
        for low, high in spans:
            seeing = [index for index, limit in enumerate(limits) if _sees_any(visibility, limit, low, high)]
            for first, last in _runs(seeing):
                rows, columns = limits[first:last], range(low, high)
                sees = bytes(visibility.sees(limit, block) for limit in rows for block in columns)
                parts.append(_Part(start + first, start + last, low, high, sees if 0 in sees else b""))
    return tuple(parts)


def _spans(visibility: Visibility, limits: Sequence[int]) -> list[tuple[int, int]]:
    """Return runs (low, high) of clean blocks low..high-1 that some of these query blocks see.

    All blocks of a run are either seen by all query blocks, or each by only some of them.
    """
    bounds = {0, min(visibility.sinks, visibility.clean)}
    bounds.update(limits, (visibility.first(limit) for limit in limits))
    spans: list[tuple[int, int, bool]] = []
    for low, high in pairwise(sorted(bounds)):
        count = sum(visibility.sees(limit, low) for limit in limits)
        if not count:
            continue
        whole = count == len(limits)
        if spans and spans[-1][1:] == (low, whole):
            low = spans.pop()[0]
        spans.append((low, high, whole))
    return [(low, high) for low, high, _ in spans]


def _sees_any(visibility: Visibility, limit: int, low: int, high: int) -> bool:
    return any(visibility.sees(limit, block) for block in range(low, high))


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return the runs of consecutive numbers, as (first, last + 1)."""
    starts = [number for number in numbers if number - 1 not in numbers]
    stops = [number + 1 for number in numbers if number + 1 not in numbers]
    return list(zip(starts, stops, strict=True))


@tensor_cache(maxsize=8)  # few, because masks are large; groups of the same shape and all layers share one
def _mask(sees: bytes, rows: int, size: int, dtype: torch.dtype) -> Tensor:
    """Return a mask that is zero where a query of these rows of blocks sees a key, else minus infinity."""
    blocks = torch.frombuffer(bytearray(sees), dtype=torch.bool).view(rows, -1)
    added = torch.zeros(blocks.shape, dtype=dtype).masked_fill(~blocks, -torch.inf)
    return added.repeat_interleave(size, 0).repeat_interleave(size, 1)


def _joined_groups(
    query: Tensor, clean: Pair | None, own: Pair | None, visibility: Visibility, size: int
) -> Tensor:
    """Compute attention with one call per group of query blocks, over the joined keys that it sees."""
    tokens = visibility.block_tokens
    outputs = []
    for group in _groups(visibility, size):
        rows = slice(group.start * tokens, group.stop * tokens)
        sources = [(clean, slice(low * tokens, high * tokens)) for low, high in group.clean]
        if visibility.own:
            sources.append((own, rows))
        key, value = joined(
            [(source[0][:, :, span], source[1][:, :, span]) for source, span in sources if source is not None]
        )
        masked = group.stop - group.start > 1 and not group.visibility.is_full
        mask = dense_mask(group.visibility, query.device) if masked else None
        outputs.append(F.scaled_dot_product_attention(query[:, :, rows], key, value, attn_mask=mask))
    return torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]


def joined(sources: Sequence[Pair]) -> Pair:
    """Concatenate the keys and values of several sources; a single source is not copied."""
    if len(sources) == 1:
        return sources[0]
    keys, values = zip(*sources, strict=True)
    return torch.cat(keys, dim=2), torch.cat(values, dim=2)


@dataclass(frozen=True)
class _Group:
    """Query blocks start..stop-1, spans of clean blocks as their keys, and the visibility among these."""

    start: int
    stop: int
    clean: tuple[tuple[int, int], ...]
    visibility: Visibility


@lru_cache(maxsize=256)
def _groups(visibility: Visibility, size: int) -> tuple[_Group, ...]:
    groups = []
    for start in range(0, len(visibility.limits), size):
        limits = visibility.limits[start : start + size]
        low, high = visibility.first(min(limits)), max(limits)
        sinks = min(visibility.sinks, low)
        spans = tuple((a, b) for a, b in ((0, sinks), (low, high)) if a < b)
        # The group's clean keys are the sinks, then low..high-1, which are shifted down by the gap between.
        shift = low - sinks
        inner = Visibility(
            visibility.block_tokens,
            high - shift,
            tuple(limit - shift for limit in limits),
            visibility.own,
            visibility.window,
            sinks if shift else visibility.sinks,
        )
        groups.append(_Group(start, start + len(limits), spans, inner))
    return tuple(groups)
