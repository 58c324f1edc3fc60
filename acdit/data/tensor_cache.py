"""Cache on disk for tensors that are slow to compute."""

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from ..utils.errors import UserError, reason_of
from ..utils.files import whole
from ..utils.tracing import is_concrete
from ..utils.untrusted import open_tensors


def cached_tensors(name: str, build: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the tensors that `build` computes, from NAME.safetensors in the cache directory if undamaged.

    The directory is ACDIT_CACHE, or ~/.cache/acdit. If it cannot be written, a warning is issued and the
    tensors are computed anew each time.

    Args:
        name: name of the file, without suffix.
        build: function that computes the tensors.
    """
    stored = read_cached(name)
    if stored is not None:
        return stored
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in build().items()}
    if is_concrete(tensors):
        write_cached(name, tensors)
    return tensors


def read_cached(name: str) -> dict[str, torch.Tensor] | None:
    """Return the tensors in NAME.safetensors in the cache directory; None if it is missing or damaged."""
    return _read(_cached_path(name))


def write_cached(name: str, tensors: dict[str, torch.Tensor]) -> None:
    """Write tensors to NAME.safetensors in the cache directory; warn if that is impossible."""
    try:
        with whole(_cached_path(name)) as temporary_path:
            save_file(tensors, temporary_path, metadata={"fingerprint": fingerprint(tensors)})
    except OSError as fault:
        message = f"{name} is not cached; set ACDIT_CACHE to a writable directory ({reason_of(fault)})"
        warnings.warn(message, stacklevel=3)


def _cached_path(name: str) -> Path:
    return cache_folder() / f"{name}.safetensors"


def cache_folder() -> Path:
    """Return the cache directory: ACDIT_CACHE, or ~/.cache/acdit."""
    return Path(os.environ.get("ACDIT_CACHE") or "~/.cache/acdit").expanduser()


def fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a hash of the names, types, shapes and values of tensors."""
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted(tensors):
        values = tensors[key].detach().cpu().contiguous()
        digest.update(f"{key} {values.dtype} {tuple(values.shape)};".encode())
        digest.update(values.view(-1).numpy().data)  # without a copy of the bytes
    return digest.hexdigest()


def _read(path: Path) -> dict[str, torch.Tensor] | None:
    try:
        with open_tensors(path) as file:
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
            expected = (file.metadata() or {}).get("fingerprint")
    except (OSError, SafetensorError, UserError):
        return None
    return tensors if fingerprint(tensors) == expected else None
