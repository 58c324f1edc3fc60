"""Tensors that are slow to make, kept on disk between runs."""

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..utils.files import whole


def cached_tensors(name: str, build: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The tensors that `build` makes, read from NAME.safetensors in the cache directory if that is undamaged.

    The directory is ACDIT_CACHE, or ~/.cache/acdit. Where it cannot be written, a warning says so and the
    tensors are made anew each time.
    """
    directory = Path(os.environ.get("ACDIT_CACHE") or "~/.cache/acdit").expanduser()
    path = directory / f"{name}.safetensors"
    stored = _read(path)
    if stored is not None:
        return stored
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in build().items()}
    try:
        with whole(path) as aside:
            save_file(tensors, aside, metadata={"fingerprint": fingerprint(tensors)})
    except OSError as fault:
        advice = f"{name} is not cached; set ACDIT_CACHE to a writable directory ({fault})"
        warnings.warn(advice, stacklevel=2)
    return tensors


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """A hash of names, types, shapes and values."""
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(tensors):
        values = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key} {values.dtype} {tuple(values.shape)};".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, torch.Tensor] | None:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
            expected = (file.metadata() or {}).get("fingerprint")
    except (OSError, SafetensorError):
        return None
    return tensors if fingerprint(tensors) == expected else None
