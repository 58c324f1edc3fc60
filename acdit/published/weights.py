"""Weights of a published checkpoint: their names without wrappers, and checks of their tensors."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from ..utils.errors import UserError
from ..utils.untrusted import shown

# Names that wrappers of training scripts add anywhere in a key: data parallelism, torch.compile, FSDP and
# activation checkpointing.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
OUTER = ("model", "ema", "ema_model", "state_dict")  # added only in front of a key
COUNTERS = ("n_averaged",)  # of torch's AveragedModel, no weights


class Renamed(NamedTuple):
    """Weights by their names without wrappers.

    Attributes:
        weights: weights by name.
        removed: prefixes that were removed, such as `module.`, in the order in which they occur.
    """

    weights: dict[str, Any]
    removed: list[str]


def without_wrappers(stored: object, part: str) -> Renamed:
    """Return a state dict whose keys lack what the wrappers of training scripts add to them.

    Args:
        stored: state dict, which may itself lie in a dictionary with a single key such as `module`.
        part: name of the state dict in messages.

    Raises:
        UserError: if it is no state dict, or two keys differ only in what is removed.
    """
    removed: dict[str, None] = {}
    while isinstance(stored, Mapping) and len(stored) == 1:
        ((key, inner),) = stored.items()
        if key not in (*WRAPPERS, *OUTER) or not isinstance(inner, Mapping) or inner is stored:
            break
        removed[f"{key}."] = None
        stored = inner
    if not isinstance(stored, Mapping):
        raise UserError(f"{part} must be a state dict, not {type(stored).__name__}")
    weights: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for key, value in stored.items():
        if not isinstance(key, str):
            raise UserError(f"{part} must map names to floating-point tensors; a key is {shown(key)}")
        words = key.split(".")
        kept = [word for word in words if word not in WRAPPERS]
        while len(kept) > 1 and kept[0] in OUTER:
            kept = kept[1:]
        if kept == list(COUNTERS):
            continue
        name = ".".join(kept)
        if name in weights:
            raise UserError(
                f"{part} holds both {shown(origin[name])} and {shown(key)}, which are the same weight "
                f"{shown(name)} without {', '.join(removed) or 'prefixes'}"
            )
        removed |= {f"{word}.": None for word in words if words.count(word) > kept.count(word)}
        weights[name], origin[name] = value, key
    return Renamed(weights, list(removed))


def dense_weights(stored: Mapping[str, Any], part: str, size: int) -> dict[str, Tensor]:
    """Return weights in float32, after checking them.

    Args:
        stored: weights by name.
        part: name of the state dict in messages.
        size: bytes of the file, which the weights cannot exceed.

    Raises:
        UserError: if a value is not a dense tensor of finite numbers, or the weights exceed the file.
    """
    total = 0
    for key, tensor in stored.items():
        if type(tensor) not in (Tensor, Parameter) or not tensor.is_floating_point():
            kind = type(tensor).__name__ + (f" of {tensor.dtype}" if isinstance(tensor, Tensor) else "")
            raise UserError(f"{part} must map names to floating-point tensors; {shown(key)} is {kind}")
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_nested:
            raise UserError(f"{part} must hold dense tensors; {shown(key)} has no values of its own")
        total += tensor.numel() * tensor.element_size()
        if total > size:  # a tensor of repeated values takes little space in a file, and much in memory
            raise UserError(f"{part} must hold dense tensors; {shown(key)} is larger than the file")
    weights = {key: tensor.detach().float().contiguous() for key, tensor in stored.items()}
    for key, tensor in weights.items():
        if not bool(tensor.isfinite().all()):
            raise UserError(f"{part} must hold finite values; {shown(key)} does not")
    return weights
