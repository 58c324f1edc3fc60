"""Fetch files from the internet. Does not import torch."""

import hashlib
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from .errors import UserError, reason_of
from .files import whole
from .progress_bar import ProgressBar

TIMEOUT = 30  # seconds without an answer
CHUNK = 2**20  # bytes


def fetch(url: str, path: Path, sha256: str, remedy: str) -> None:
    """Fetch a file, which appears at `path` only if it is complete and has the expected hash.

    Args:
        url: address of the file.
        path: file to write.
        sha256: beginning of the hash of the file, in hexadecimal digits.
        remedy: advice at the end of the message of an error.

    Raises:
        UserError: if the file cannot be fetched or written, or is another one.
    """
    digest = hashlib.sha256()
    try:
        with urlopen(url, timeout=TIMEOUT) as answer, whole(path) as temporary_path:
            size = int(answer.headers.get("Content-Length") or 0)
            with temporary_path.open("wb") as file:
                chunks = iter(lambda: answer.read(CHUNK), b"")
                for chunk in ProgressBar(
                    chunks, f"fetching {path.name}", -(-size // CHUNK) or None, unit="MiB"
                ):
                    digest.update(chunk)
                    file.write(chunk)
            if not digest.hexdigest().startswith(sha256):
                raise UserError(
                    f"{url} is not the expected file: its SHA-256 begins with "
                    f"{digest.hexdigest()[: len(sha256)]}, not {sha256}; {remedy}"
                )
    except (OSError, ValueError, HTTPException) as fault:
        if isinstance(fault, UserError):
            raise
        raise UserError(f"{url} cannot be fetched: {reason_of(fault)}; {remedy}") from fault
