"""Arguments of `ACDiTTransformer` and its forward: views, clean blocks and cache must fit each other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .kv_cache import KVCache
from .layout import Layout


def check_network_arguments(
    in_channels: int | None,
    vocab_size: int | None,
    hidden_size: int,
    num_heads: int,
    format_version: int,
    time_conditioning: bool,
    context: str,
) -> None:
    """Raise ValueError unless the arguments of a new network, see `ACDiTTransformer`, fit each other."""
    if (in_channels is None) == (vocab_size is None):
        raise ValueError("give exactly one of in_channels (images, video) and vocab_size (text)")
    if hidden_size % num_heads:
        raise ValueError(f"num_heads must divide hidden_size {hidden_size}; {num_heads} does not")
    if format_version != 1:
        raise ValueError(
            f"this model has format version {format_version}; this acdit reads version 1: upgrade acdit"
        )
    if context not in ("clean", "noised"):
        raise ValueError(f"context must be clean or noised, not {context!r}")
    if context == "noised" and (in_channels is None or not time_conditioning):
        raise ValueError("context noised is for images and video, with time_conditioning")


def checked_blocks(
    layout: Layout,
    *,
    noised: Tensor | None,
    timestep: Tensor | None,
    blocks: Sequence[int] | None,
    clean: Tensor | None,
    cache: KVCache | None,
    axes: int,
    timed: bool,
    noised_context: bool,
    labels: Tensor | None,
    window: int | None,
    sinks: int,
) -> tuple[int, ...]:
    """Return the blocks of the views, after checking that the arguments are complete and fit each other.

    Args:
        layout: Layout of the samples.
        noised: Noised views, or None.
        timestep: Timesteps of the views, or None.
        blocks: Block index of each view; None = all blocks in order.
        clean: Clean blocks, or None.
        cache: Keys and values of earlier clean blocks, or None.
        axes: Number of axes of the network.
        timed: Whether the network takes timesteps.
        noised_context: Whether blocks without clean blocks and cache see each other.
        labels: Labels, if the past depends on them; else None.
        window: Number of previous blocks visible to each block, or None.
        sinks: Number of first blocks that stay visible beyond the window.

    Raises:
        ValueError: If arguments do not fit each other, or a required one is missing.
    """
    if layout.axes != axes:
        raise ValueError(f"the layout has {layout.axes} axes, but the network has {axes}")
    if (window is not None and window < 0) or sinks < 0:
        raise ValueError(f"window and sinks must not be negative, but are {window} and {sinks}")
    if cache is not None:
        cache.check_window(window, sinks)
    alone = clean is None and cache is None
    if labels is not None and not alone and labels.ndim == 2 and labels.shape[1] != 1:
        raise ValueError(
            "labels must be one per sample with clean blocks or a cache, because the past depends on them, "
            f"not {tuple(labels.shape)}"
        )
    given = 0 if clean is None else clean.shape[1]
    present = given + (0 if cache is None else cache.num_blocks)
    if cache is not None:
        for part in (noised, clean):
            if part is not None:
                cache.check(layout, part.shape[0], given)
    if present > layout.num_blocks:
        raise ValueError(
            f"{layout} has {layout.num_blocks} blocks, but {present} clean blocks are given or in the cache"
        )
    if noised is None:
        return ()
    # not len(): it would fix the batch size of an exported program
    if clean is not None and clean.shape[0] != noised.shape[0]:
        raise ValueError(f"clean must have {len(noised)} samples, like noised, not {len(clean)}")
    if timed and (timestep is None or timestep.shape != noised.shape[:2]):
        shape = None if timestep is None else tuple(timestep.shape)
        raise ValueError(f"timestep must have one value per view, {tuple(noised.shape[:2])}, not {shape}")
    blocks = tuple(range(layout.num_blocks)) if blocks is None else tuple(blocks)
    if not blocks or len(blocks) != noised.shape[1] or list(blocks) != sorted(blocks):
        raise ValueError(
            f"blocks must be {noised.shape[1]} sorted indices, one per noised view, not {blocks}"
        )
    if blocks[0] < 0 or blocks[-1] >= layout.num_blocks:
        raise ValueError(f"blocks must lie in 0..{layout.num_blocks - 1}, not {blocks}")
    if noised_context and alone:
        if blocks != tuple(range(len(blocks))):
            raise ValueError(
                "without clean blocks or a cache, a network with noised context needs one view of each of "
                f"the first blocks, not of the blocks {blocks}"
            )
        return blocks
    if present < blocks[-1]:
        raise ValueError(
            f"a view of block {blocks[-1]} needs {blocks[-1]} clean blocks before it, but has {present}"
        )
    if cache is not None:
        cache.check_views(blocks, given)
    return blocks


def state_layers(requested: bool | Sequence[int], num_layers: int) -> tuple[int, ...]:
    """Return the layers whose states are returned: 0 for the embedded tokens, k for the output of layer k.

    Args:
        requested: Whether the states of the last layer are requested, or the layers.
        num_layers: Number of layers of the network.

    Raises:
        ValueError: If there is no such layer, or none is named.
    """
    if isinstance(requested, bool):
        return (num_layers,) if requested else ()
    layers = tuple(requested)
    if not layers or min(layers) < 0 or max(layers) > num_layers:
        raise ValueError(f"layers must lie in 0..{num_layers} (0 = the embedded tokens), not {layers}")
    return layers


def row_scales(branch_scale: Tensor, rows: Sequence[int], shape: tuple[int, int, int]) -> Tensor:
    """Return the factors of both branches of every layer for all blocks of a call.

    Args:
        branch_scale: Factors (N, layers, 2).
        rows: Number of blocks of all samples, for each stream.
        shape: Shape that the factors must have.

    Returns:
        Factors (layers, 2, R, 1, 1).

    Raises:
        ValueError: If the factors have another shape.
    """
    if branch_scale.shape != shape:
        raise ValueError(f"branch_scale must be (N, layers, 2) = {shape}, not {tuple(branch_scale.shape)}")
    scales = branch_scale.permute(1, 2, 0)  # (layers, 2, N)
    by_row = [scales.repeat_interleave(count // branch_scale.shape[0], 2) for count in rows]
    return torch.cat(by_row, dim=2)[..., None, None]


def in_samples(state: Tensor, samples: int, rows: Sequence[int]) -> Tensor:
    """Return the state (R, B, hidden) of all blocks of a call as (N, R / N, B, hidden).

    Args:
        state: State of the clean blocks of all samples, then of all their views.
        samples: Number of samples, N.
        rows: Number of blocks of all samples, for each stream.
    """
    return torch.cat([part.unflatten(0, (samples, -1)) for part in state.split(list(rows))], dim=1)
