"""Read files that may be damaged or hostile: bounded, without execution, with errors of one line.

Every reader of model folders, manifests, recipes and the like goes through this module. It does not import
torch.
"""

import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import yaml

from .errors import PACKAGE, UserError, is_out_of_memory, reason_of

if TYPE_CHECKING:
    from safetensors import safe_open

LARGEST_JSON = 2**26  # bytes; the largest tokenizers have half of it
LARGEST_YAML = 2**20
MOST_VALUES = 100_000  # in a YAML file; aliases count as often as they are used
LARGEST_HEADER = 10**8  # bytes, the limit of safetensors
MAX_AXES = 16
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1} | {
    "BOOL": 1,
    **{f"{sign}{8 * size}": size for sign in "IU" for size in (1, 2, 4, 8)},
}
PASSED_ON = Path(__file__).with_name("construction.py")
# Raised by code of others for content that it does not expect; in this package they are bugs.
UNEXPECTED = (LookupError, TypeError, AttributeError, AssertionError, NotImplementedError, ImportError)
# Raised for content that is wrong, wherever they are raised: Python's and torch's own functions raise them.
WRONG = (ValueError, OSError, RuntimeError, MemoryError, ArithmeticError, EOFError)


@dataclass(frozen=True)
class StoredTensor:
    """Tensor of a safetensors file, of which only the header has been read."""

    dtype: str
    """Name of the type as in safetensors, such as F32."""
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)


@contextmanager
def reading(path: Path | str, remedy: str = "") -> Iterator[None]:
    """Turn errors that the content of a file or folder causes into UserError "PATH is damaged: ...".

    Only reading and checking belong into the context. Errors that only a bug of this package can cause are
    not turned; nor is UserError.

    Args:
        path: file or folder that is read.
        remedy: advice at the end of the message.
    """
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno is None:  # libraries raise it for wrong content
            raise damage(path, reason_of(error), remedy) from error
        raise UserError(f"{path} cannot be read: {error.strerror or reason_of(error)}") from error
    except WRONG as error:
        if isinstance(error, NotImplementedError) and _is_bug(error):
            raise
        if is_out_of_memory(error):
            raise UserError(f"{path} cannot be read: it does not fit into memory") from error
        raise damage(path, reason_of(error), remedy) from error
    except UNEXPECTED as error:
        if _is_bug(error):
            raise
        raise damage(path, reason_of(error), remedy) from error
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":  # of libraries in Rust
            raise
        raise damage(path, reason_of(error), remedy) from error


def damage(path: Path | str, reason: str, remedy: str = "") -> UserError:
    """Return the error for a damaged file or folder."""
    return UserError(f"{path} is damaged: {reason}{f'; {remedy}' if remedy else ''}")


def check_file(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        UserError: if there is no such file, or it is a folder, a pipe or a device, which might never end.
    """
    try:
        described = path.stat()
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:  # such as a loop of links, or a name with a NUL
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(described.st_mode):
        kind = "a folder" if stat.S_ISDIR(described.st_mode) else "a pipe or a device"
        raise UserError(f"{path} is {kind}, not a file")
    return described.st_size


def read_bytes(path: Path, largest: int = LARGEST_JSON) -> bytes:
    """Return the content of a regular file of at most `largest` bytes.

    Raises:
        UserError: if there is no such file, or it is larger.
    """
    size = check_file(path)
    if size > largest:
        raise damage(path, f"it has {size:,} bytes, more than the {largest:,} that such a file may have")
    with reading(path), path.open("rb") as file:
        return file.read(largest)


def read_json(path: Path, *, infinite: bool = False) -> object:
    """Return the value in a JSON file.

    Args:
        path: file to read.
        infinite: whether the constants NaN and Infinity are allowed, as schedulers of diffusers use them.

    Raises:
        UserError: see `read_bytes` and `parse_json`.
    """
    return parse_json(read_bytes(path), path, infinite=infinite)


def read_object(path: Path, *, infinite: bool = False) -> dict[str, Any]:
    """Return the object in a JSON file, as `read_json` does; UserError if it holds another value."""
    value = read_json(path, infinite=infinite)
    if not isinstance(value, dict):
        raise damage(path, f"it must hold a JSON object, not {shown(value)}")
    return value


def parse_json(text: bytes | str, source: Path | str, *, infinite: bool = False) -> object:
    """Return the value of a JSON text.

    Raises:
        UserError: if it is not JSON, too deeply nested, or repeats a key in an object, or if it holds a
            number that is too large, or one that is not finite unless `infinite`.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    raise ValueError(f"the key {shown(key)} occurs twice")
                seen.add(key)
        return values

    def constant(name: str) -> float:
        if not infinite:
            raise ValueError(f"{name} is not a finite number")
        return float(name)

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise ValueError(f"{shown(digits)} is too large a number")
        return value

    if not text:
        raise damage(source, "it is empty")
    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant, parse_float=number)
    except UnicodeDecodeError as error:
        raise damage(source, f"it is not UTF-8 at byte {error.start:,}") from error
    except ValueError as error:
        long = "set_int_max_str_digits" in str(error)
        raise damage(source, "a number has too many digits" if long else f"not JSON: {error}") from error
    except RecursionError as error:
        raise damage(source, "its values are nested too deeply") from error


def read_yaml(path: Path) -> object:
    """Return the content of a YAML file, every scalar as text.

    Raises:
        UserError: if it is not YAML, too large or too deeply nested, or repeats a key.
    """
    content = read_bytes(path, LARGEST_YAML)
    try:
        values = yaml.load(content, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        raise UserError(f"{path} must be YAML: {problem or reason_of(error)}{where}") from error
    except RecursionError as error:
        raise UserError(f"{path} must be YAML: its values are nested too deeply") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} must be YAML: it is not UTF-8 at byte {error.start:,}") from error
    waiting, count = [values], 0
    while waiting:  # values inside themselves never end
        value = waiting.pop()
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        count += 1
        if count > MOST_VALUES:
            raise UserError(f"{path} must hold at most {MOST_VALUES:,} values, counted with its aliases")
    return values


class _UniqueKeys(yaml.BaseLoader):
    """Loader of scalars as text, which refuses a mapping that repeats a key."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
                if key.value in keys:
                    problem = f"the key {key.value} occurs twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                keys.add(key.value)
        return super().construct_mapping(node, deep)


def tensor_header(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a safetensors file by name, from its header alone.

    Raises:
        UserError: if the header is damaged, or the file has another size than the header says.
    """
    size = check_file(path)
    with reading(path), path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(size - 8, LARGEST_HEADER):
            raise damage(path, "it is not a safetensors file, or truncated")
        header = parse_json(file.read(length), path)
    if not isinstance(header, dict):
        raise damage(path, "its header is not a JSON object")
    header.pop("__metadata__", None)
    tensors, ends = {}, [0]
    for name, entry in header.items():
        values: list[Any] = [
            entry.get(key) if isinstance(entry, dict) else None for key in ("dtype", "shape", "data_offsets")
        ]
        dtype, shape, offsets = values
        if not isinstance(dtype, str) or not _are_counts(shape) or not _are_counts(offsets):
            raise damage(path, f"its header describes the tensor {shown(name)} wrongly")
        tensor = StoredTensor(dtype, tuple(shape))
        expected = tensor.elements * ITEM_BYTES.get(dtype, 0)
        if len(offsets) != 2 or (dtype in ITEM_BYTES and offsets[1] - offsets[0] != expected):
            raise damage(path, f"the size of its tensor {shown(name)} is not that of its shape")
        tensors[name] = tensor
        ends.append(offsets[1])
    if 8 + length + max(ends) != size:
        raise damage(path, f"it has {size:,} bytes, but its header describes {8 + length + max(ends):,}")
    return tensors


def open_tensors(path: Path) -> "safe_open":
    """Open a safetensors file, mapped into memory, after checking its header; see `tensor_header`."""
    from safetensors import safe_open

    tensor_header(path)
    with reading(path):
        return safe_open(path, framework="pt")


def file_name(value: object) -> bool:
    """Return whether a value is the plain name of a file, and so cannot lead out of its folder."""
    return (
        isinstance(value, str)
        and value not in ("", ".", "..")
        and not set(value) & {"/", "\\", "\0"}
        and os.path.basename(value) == value
    )


def shown(value: object, width: int = 60) -> str:
    """Return a short representation of a value of any size in one line."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**width:
        return f"a number of about {int(value.bit_length() * math.log10(2)) + 1:,} digits"
    if isinstance(value, list | tuple | set | frozenset):
        if len(value) > width or any(isinstance(item, list | tuple | Mapping | set) for item in value):
            return f"a list of {len(value):,}"
        text = "[" + ", ".join(shown(item) for item in value) + "]"
    else:
        text = repr(value[: width + 1]) if isinstance(value, str | bytes) else repr(value)
    text = re.sub(r"\s+", " ", text)
    return text if len(text) <= width else text[:width] + " ..."


def plain(value: object) -> str:
    """Return a name as it is if it is short and printable, else a short representation of the value."""
    return value if isinstance(value, str) and value.isprintable() and 0 < len(value) <= 60 else shown(value)


def _is_bug(error: BaseException) -> bool:
    """Return whether code of this package took part in an error, other than by calling a library.

    The first frames are those of `reading` and of contexts around it, all in this folder, and of the
    function that they are used in. Functions that hold the lock of `construction` only pass a call on.
    """
    files = [Path(frame.f_code.co_filename) for frame, _ in walk_tb(error.__traceback__)]
    files = [file for file in files if file != PASSED_ON]
    called = [*dropwhile(lambda file: file.parent == Path(__file__).parent, files)][1:]
    return any(file.is_relative_to(PACKAGE) for file in (*called, *files[-1:]))


def _are_counts(value: Any) -> bool:
    """Return whether a value is a list of few whole numbers, none of them negative or absurd."""
    return (
        isinstance(value, list)
        and len(value) <= MAX_AXES
        and all(type(item) is int and 0 <= item < 2**62 for item in value)
    )
