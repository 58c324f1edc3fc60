"""Folders and files with hostile content, for the tests of what is refused."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from acdit.cli.main import main

INDEX, NETWORK, SCHEDULER = "model_index.json", "transformer/config.json", "scheduler/scheduler_config.json"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
DEEP = "[" * 100_000 + "]" * 100_000
VALUES: dict[str, Any] = {
    "null": None,
    "negative": -1,
    "zero": 0,
    "text": "x",
    "true": True,
    "list": [],
    "nested": [[1], {"a": []}],
    "object": {"a": 1},
    "fraction": 0.5,
    "million": 10**6,
    "huge": 10**30,
    "long": "y" * 100_000,
}
# Contents in place of a JSON file.
CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"{",
    "list": b"[]",
    "number": b"7",
    "deep": DEEP.encode(),
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "NUL": b'{"a": "\x00"}',
    "digits": b'{"a": ' + b"9" * 5000 + b"}",
    "infinite": b'{"a": NaN}',
    "too large": b'{"a": 1e999}',
    "twice": b'{"a": 1, "a": 2}',
    "binary": bytes(range(256)) * 8,
}


def replaced(path: Path, key: str, value: Any) -> None:
    """Replace a value in a JSON file, or remove the key if the value is Ellipsis."""
    stored = json.loads(path.read_text())
    stored[key] = value
    if value is ...:
        del stored[key]
    path.write_text(json.dumps(stored))


@contextmanager
def copied(folder: Path, place: Path) -> Iterator[Path]:
    """A copy of a folder, which is removed afterwards."""
    shutil.copytree(folder, place)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def refusal(run: Callable[[], int], capsys: pytest.CaptureFixture[str]) -> str:
    """The single line that a refused command prints."""
    capsys.readouterr()
    assert run() == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("acdit: error: ")]
    assert len(lines) == 1 and len(lines[0]) < 2000, error[:3000]
    return lines[0]


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The single line that `acdit` prints for words that it refuses."""
    return refusal(lambda: main(words), capsys)
