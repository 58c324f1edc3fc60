"""Damaged weights, and pipes, folders and loops in place of a model's files: told in a line, or ignored."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from acdit.cli.main import main
from acdit.pipelines.loading import load_pipeline
from acdit.utils.errors import UserError
from tests.hostile import (
    DEEP,
    INDEX,
    NETWORK,
    SCHEDULER,
    WEIGHTS,
    copied,
    refused,
)
from tests.pipelines.small import build, network


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Folder of a tiny model of images."""
    folder = tmp_path_factory.mktemp("models") / "image"
    build(network(4)).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(model, tmp_path):
    """A copy of the model."""
    with copied(model, tmp_path / "model") as copy:
        yield copy


def weights_with(folder: Path, **changes: Any) -> None:
    """Rewrite the weights of a network with other tensors; None leaves one out."""
    tensors = load_file(folder / WEIGHTS)
    changed = {name.replace("__", "."): tensor for name, tensor in changes.items()}
    kept = {name: tensor for name, tensor in (tensors | changed).items() if tensor is not None}
    save_file(kept, folder / WEIGHTS)


def header_with(path: Path, change: Any) -> None:
    """Rewrite the header of a safetensors file; what follows it stays."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + content[8 + length :])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / WEIGHTS).write_bytes(b""), "truncated"),
        (lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1]), "its header"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 64), "not a safetensors file"),
        (lambda folder: (folder / WEIGHTS).write_bytes((2**62).to_bytes(8, "little") * 4), "truncated"),
        (
            lambda folder: (folder / WEIGHTS).write_bytes(len(DEEP).to_bytes(8, "little") + DEEP.encode()),
            "deep",
        ),
        (lambda folder: header_with(folder / WEIGHTS, lambda header: header.clear()), "bytes"),
        (
            lambda folder: header_with(
                folder / WEIGHTS, lambda header: header["x_embedder.weight"].update(shape=[2**40, 2**40])
            ),
            "not that of its shape",
        ),
        (lambda folder: weights_with(folder, x_embedder__weight=None), "x_embedder.weight is missing"),
        (lambda folder: weights_with(folder, x_embedder__weight=torch.zeros(3, 3)), "is [3, 3], not"),
        (
            lambda folder: weights_with(folder, x_embedder__weight=torch.zeros(32, 4, dtype=torch.int64)),
            "holds I64",
        ),
        (
            lambda folder: weights_with(folder, x_embedder__weight=torch.full((32, 4), torch.nan)),
            "not finite",
        ),
        (lambda folder: weights_with(folder, surplus=torch.zeros(1)), "surplus is unexpected"),
    ],
    ids=[
        "empty",
        "cut",
        "noise",
        "length",
        "deep",
        "cleared",
        "shape",
        "missing",
        "3x3",
        "ints",
        "nan",
        "more",
    ],
)
def test_every_damage_of_weights_is_named(folder, capsys, damage, words):
    damage(folder)
    line = refused(["info", "--model", str(folder)], capsys)
    assert "damaged" in line and str(folder) in line and words in line


@pytest.mark.parametrize("file", [INDEX, NETWORK, SCHEDULER, WEIGHTS])
def test_pipes_folders_and_loops_in_place_of_files(folder, capsys, file):
    path, words = folder / file, ["info", "--model", str(folder)]
    path.unlink()
    os.mkfifo(path)
    assert "pipe" in refused(words, capsys)
    path.unlink()
    path.mkdir()
    assert "a folder, not a file" in refused(words, capsys)
    path.rmdir()
    path.symlink_to(path)
    assert str(folder) in refused(words, capsys)


def test_files_that_nothing_lists_are_ignored(folder):
    (folder / "transformer" / "more.safetensors").write_bytes(b"no weights")
    os.mkfifo(folder / "transformer" / "pipe.safetensors")
    (folder / "notes.json").write_text("{")
    assert main(["info", "--model", str(folder)]) == 0


def test_an_index_of_divided_weights_cannot_lead_out_of_its_folder(folder):
    pipeline = load_pipeline(folder)
    (folder / WEIGHTS).unlink()
    pipeline.transformer.save_pretrained(folder / "transformer", max_shard_size="10KB")
    assert len(list((folder / "transformer").glob("*.safetensors"))) > 1
    assert load_pipeline(folder).transformer.state_dict().keys() == pipeline.transformer.state_dict().keys()
    index = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    stored = json.loads(index.read_text())
    for name in ("../../x.safetensors", "/etc/passwd", 7, ".."):
        changed = stored["weight_map"] | {"x_embedder.weight": name}
        index.write_text(json.dumps(stored | {"weight_map": changed}))
        with pytest.raises(UserError, match="weight_map must name a file in the same folder"):
            load_pipeline(folder)
