"""Conditioning vectors of noised views, and a memo that reuses them across blocks."""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..utils.tracing import is_tracing

MAX_BYTES = 2**28


class ConditionMemo:
    """Memo of vectors by use and by (timestep, label); every block of a generation needs the same ones.

    Args:
        max_bytes: Size in bytes above which the memo is cleared.
    """

    def __init__(self, max_bytes: int = MAX_BYTES):
        self.max_bytes = max_bytes
        self._vectors: dict[Hashable, dict[Hashable, Tensor]] = {}
        self._nbytes = 0

    def rows(self, use: Hashable, keys: Sequence[Hashable], compute: Callable[[list[int]], Tensor]) -> Tensor:
        """Return the vectors of all keys, (keys, ..).

        `compute` is called with the indices of the keys that are not in the memo.
        """
        if self._nbytes > self.max_bytes:
            self._vectors.clear()
            self._nbytes = 0
        vectors = self._vectors.setdefault(use, {})
        new = {key: index for index, key in enumerate(keys) if key not in vectors}
        if new:
            computed = compute(list(new.values()))
            self._nbytes += computed.nbytes
            vectors.update(zip(new, computed, strict=True))
        return torch.stack([vectors[key] for key in keys])


class Conditions(NamedTuple):
    """Conditioning vectors for adaLN, one per noised view, with an optional memo and one key per view."""

    vectors: Tensor  # (N M, hidden)
    memo: ConditionMemo | None = None
    keys: tuple[Hashable, ...] = ()

    def joined(self, other: "Conditions") -> "Conditions":
        """Return the conditions of these views and then of others."""
        return Conditions(torch.cat((self.vectors, other.vectors)), self.memo, self.keys + other.keys)

    def last(self, count: int) -> "Conditions":
        """Return the conditions of the last views."""
        keys = self.keys and self.keys[-count:]  # slices of tuples would fix the sizes of exported programs
        return Conditions(self.vectors[-count:], self.memo, keys)

    def through(self, use: Hashable, module: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the output of a module for the vectors, from the memo if there is one.

        `use` names the module in the memo.
        """
        # Compiled code would be bound to the keys that are in the memo, and be compiled anew at every step.
        if torch.compiler.is_compiling() or self.memo is None:
            return module(self.vectors)
        return self.memo.rows(use, self.keys, lambda indices: module(self.vectors[indices]))


def embed_conditions(
    time_embedder: nn.Module | None,
    label_embedder: nn.Module | None,
    null_label: int | None,
    noised: Tensor,
    timestep: Tensor | None,
    labels: Tensor | None,
    condition: Tensor | None,
    memo: ConditionMemo | None,
    dtype: torch.dtype,
) -> Conditions | None:
    """Return the sum of the embeddings of every view: timestep, label, others; None without any.

    Args:
        time_embedder: Embedder of timesteps; None without time conditioning.
        label_embedder: Embedder of labels; None without labels.
        null_label: Row of the null label.
        noised: Views (N, M, ..).
        timestep: Timesteps (N, M), or None.
        labels: Labels (N,) or (N, M); None = null labels.
        condition: Vectors (N, hidden) that are added, or None.
        memo: Memo of a generation; None = all vectors are computed.
        dtype: Data type of the vectors.

    Raises:
        ValueError: If labels or a condition are given, but the network takes none.
    """
    views = noised.shape[:2]
    if label_embedder is None and labels is not None:
        raise ValueError("labels were given, but the network has no classes (num_classes)")
    if time_embedder is None and label_embedder is None:
        if condition is not None:
            raise ValueError(
                "condition was given, but the network has neither time_conditioning nor num_classes"
            )
        return None
    if label_embedder is not None:
        if labels is None:
            labels = torch.full(views[:1], null_label or 0, device=noised.device)
        labels = (labels if labels.ndim == 2 else labels[:, None]).expand(views).flatten()
    timestep = None if time_embedder is None or timestep is None else timestep.flatten()

    def embed(indices: list[int] | slice) -> Tensor:
        parts = []
        if time_embedder is not None and timestep is not None:
            parts.append(time_embedder(timestep[indices], dtype))
        if label_embedder is not None and labels is not None:
            parts.append(label_embedder(labels[indices]))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]  # (indices, hidden)

    # The memo compares numbers, which are only at hand on the CPU and outside of tracers.
    readable = noised.device.type == "cpu" and not is_tracing()
    if memo is None or condition is not None or torch.is_grad_enabled() or not readable:
        vectors = embed(slice(None))
        if condition is not None:
            vectors = vectors + condition.repeat_interleave(views[1], 0)
        return Conditions(vectors)
    keys = tuple(zip(*(each.tolist() for each in (timestep, labels) if each is not None), strict=True))
    return Conditions(memo.rows("embedding", keys, embed), memo, keys)


def embed_streams(
    time_embedder: nn.Module | None,
    label_embedder: nn.Module | None,
    null_label: int | None,
    streams: Sequence[tuple[Tensor, Tensor | None]],
    labels: Tensor | None,
    condition: Tensor | None,
    memo: ConditionMemo | None,
    dtype: torch.dtype,
) -> Conditions | None:
    """Return the conditions of all blocks of several streams, one stream after the other; None without any.

    Args:
        time_embedder: Embedder of timesteps, see `embed_conditions`.
        label_embedder: Embedder of labels.
        null_label: Row of the null label.
        streams: Blocks (N, M, ..) of every stream and their timesteps (N, M); None = the timestep 0.
        labels: Labels (N,), or (N, M) for a single stream; None = null labels.
        condition: Vectors (N, hidden) that are added, or None.
        memo: Memo of a generation; None = all vectors are computed.
        dtype: Data type of the vectors.
    """
    result: Conditions | None = None
    for blocks, timestep in streams:
        if timestep is None and time_embedder is not None:
            timestep = torch.zeros(blocks.shape[:2], device=blocks.device)
        embedded = embed_conditions(
            time_embedder, label_embedder, null_label, blocks, timestep, labels, condition, memo, dtype
        )
        result = embedded if result is None or embedded is None else result.joined(embedded)
    return result
