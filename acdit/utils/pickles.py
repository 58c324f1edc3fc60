"""Read files of `torch.save` without executing anything in them, and without absurd allocations."""

import argparse
import pickle
import pickletools
import re
import zipfile
from pathlib import Path
from typing import IO

import torch

from .errors import UserError
from .untrusted import check_file

ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # first bytes of the two formats
PICKLES = 4  # in a file of the older format, before the values of the tensors


def load_untrusted(path: Path, expected: str) -> object:
    """Return the content of a file of `torch.save`: tensors, plain containers and argparse.Namespace.

    Args:
        path: file to read.
        expected: description of the expected file in messages, with its article.

    Raises:
        UserError: if it is not such a file, is damaged, or would execute code.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file; name {expected}")
    size = check_file(path)
    with path.open("rb") as file:
        start = file.read(4)
    if not start.startswith((ZIP, PICKLE)):
        raise UserError(f"{path} is refused: it is not a file of torch.save; name {expected}")
    zipped = start == ZIP
    try:
        _check_sizes(path, size, zipped)
        with torch.serialization.safe_globals([argparse.Namespace]):
            # Memory-mapped, so that unrequested optimiser states and averages are not loaded into memory.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as fault:
        match = re.search(r"(?:GLOBAL|global) (\S+)", str(fault))
        reference = f": it refers to {match[1][:100]}" if match else ""
        raise UserError(
            f"{path} is refused: it is damaged, or contains more than tensors, plain containers and "
            f"argparse.Namespace{reference}"
        ) from fault
    except UserError:
        raise
    except Exception as fault:  # a damaged pickle can raise almost any exception
        raise UserError(
            f"{path} is damaged: it cannot be read as a file of torch.save; copy or download it again"
        ) from fault


def _check_sizes(path: Path, size: int, zipped: bool) -> None:
    """Raise UserError if a file says that it holds more values than bytes."""
    if zipped:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise UserError(
                    f"{path} is refused: it is a compressed archive, which torch.save never writes"
                )
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            for name in names:
                with archive.open(name) as file:
                    _check_pickle(path, file, size)
        return
    with path.open("rb") as file:
        for _ in range(PICKLES):
            _check_pickle(path, file, size)


def _check_pickle(path: Path, file: IO[bytes], size: int) -> None:
    """Raise UserError if a storage of tensors in a pickle is larger than the file."""
    last = 0
    for opcode, argument, _ in pickletools.genops(file):
        if isinstance(argument, int) and opcode.name.startswith(("BININT", "LONG", "INT")):
            last = argument  # a storage ends with its number of elements
        elif opcode.name == "BINPERSID" and last > size:
            raise UserError(f"{path} is damaged: it has {size:,} bytes, but describes {last:,} values")
