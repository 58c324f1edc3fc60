"""Checks of files of latents against the digests in their headers and in the manifest."""

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..utils.errors import UserError
from ..utils.kinds import check_values
from ..utils.progress_bar import ProgressBar
from ..utils.ranks import launched
from ..utils.untrusted import open_tensors, parse_json
from .latent_files import HEADER_KINDS, checked_identity
from .tensor_cache import cache_folder, fingerprint

HEADER = "acdit"  # a single key, since safetensors writes several in arbitrary order
DIGESTED = ("index", "label", "mean", "deviation")  # tensors of a file that its digest covers
SOURCES = ("content", "modified")  # tensors about the encoded files, with a digest of their own
REPAIR = "run acdit encode --verify with this recipe to repair it"


def shard_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a file of latents; None if the file is missing or damaged."""
    try:
        with open_tensors(path) as file:
            written = (file.metadata() or {}).get(HEADER)
        if written is None:
            return None
        header = check_values(parse_json(written, path), HEADER_KINDS, path)
        identity = header.get("identity")
        return header if identity is None else header | {"identity": checked_identity(identity, path)}
    except (OSError, SafetensorError, UserError):
        return None


def is_foreign(path: Path) -> bool:
    """Return whether a file is a sound safetensors file that is not one of latents."""
    try:
        with open_tensors(path) as file:
            return HEADER not in (file.metadata() or {})
    except (OSError, SafetensorError, UserError):
        return False


def check_shards(folder: Path, shards: list[dict[str, Any]]) -> None:
    """Raise UserError if a file of latents has another content than its digest in the manifest.

    A file is read once on each machine: the check is remembered in the cache directory by the file's path,
    size and time of modification.
    """
    if launched().local_rank:
        return  # the first rank of the machine checks for all
    unknown = [shard for shard in shards if not _remembered(folder / shard["file"], shard["fingerprint"])]
    for shard in ProgressBar(unknown, desc="checking latents", unit="file", delay=2, leave=False):
        path = folder / shard["file"]
        if not is_sound(path, shard["fingerprint"]):
            raise UserError(f"{path} is damaged, since its content does not fit its digest: {REPAIR}")


def is_sound(path: Path, expected: str | None = None) -> bool:
    """Return whether the content of a file of latents fits a digest, by default that in its header.

    The result is remembered if it is true, see `check_shards`.
    """
    header = shard_header(path)
    if header is None:
        return False
    digest: str = header["fingerprint"] if expected is None else expected
    try:
        with open_tensors(path) as file:
            present = set(file.keys())
            tensors = {name: file.get_tensor(name) for name in present & {*DIGESTED}}
            sources = {name: file.get_tensor(name) for name in present & {*SOURCES}}
    except (OSError, SafetensorError, UserError):
        return False
    # earlier versions wrote no digest of the sources
    sound = fingerprint(tensors) == digest and header.get("sources") in (None, fingerprint(sources))
    if sound:
        _remember(path, digest)
    return sound


def _marker(path: Path, digest: str) -> Path:
    """Return the path of the file whose existence says that a file of latents was checked."""
    facts = path.stat()
    words = f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns} {digest}"
    return cache_folder() / "checked" / hashlib.blake2b(words.encode(), digest_size=16).hexdigest()


def _remembered(path: Path, digest: str) -> bool:
    return _marker(path, digest).exists()


def _remember(path: Path, digest: str) -> None:
    marker = _marker(path, digest)
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError:
        return  # the file is read again the next time
