"""Published checkpoints with wrapped keys are read as the bare ones; damaged and hostile ones are refused."""

import argparse
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from acdit.cli.main import main
from acdit.published.format import read_checkpoint
from acdit.utils.errors import UserError
from tests.checkpoints import IMAGE, raw
from tests.hostile import DEEP, refused


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def renamed(weights: dict[str, Any], rename: Any) -> OrderedDict[str, Any]:
    return OrderedDict((rename(name), tensor) for name, tensor in weights.items())


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        (lambda name: f"module.{name}", "module."),
        (lambda name: f"_orig_mod.{name}", "_orig_mod."),
        (lambda name: f"module._orig_mod.{name}", "module., _orig_mod."),
        (lambda name: f"_orig_mod.module.model.{name}", "_orig_mod., module., model."),
        (lambda name: f"ema.{name}", "ema."),
        (lambda name: name.replace("blocks.1.", "blocks.1._orig_mod."), "_orig_mod."),
        (lambda name: f"module.{name}" if "blocks" in name else name, "module."),
        (lambda name: f"_fsdp_wrapped_module.{name}", "_fsdp_wrapped_module."),
    ],
    ids=["ddp", "compiled", "both", "nested", "ema", "blocks", "mixed", "fsdp"],
)
@pytest.mark.parametrize("part", ["model", "ema"])
def test_wrapped_keys_give_the_same_files(tmp_path, capsys, rename, said, part):
    more = ["--ema"] if part == "ema" else []
    assert main(["convert", str(IMAGE), "--out", str(tmp_path / "bare"), *more]) == 0
    assert "without" not in capsys.readouterr().out
    stored = raw(IMAGE)
    stored[part] = renamed(stored[part], rename)
    torch.save(stored, tmp_path / "wrapped.pt")
    assert main(["convert", str(tmp_path / "wrapped.pt"), "--out", str(tmp_path / "wrapped"), *more]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = f"the keys of {part} in {tmp_path / 'wrapped.pt'} are read without {said}"
    assert [line for line in lines if "without" in line] == [expected]
    assert bytes_of(tmp_path / "wrapped") == bytes_of(tmp_path / "bare")


def test_a_state_dict_in_a_dictionary_and_a_counter_of_averages(tmp_path):
    stored = raw(IMAGE)
    bare = read_checkpoint(IMAGE).model
    stored["model"] = {"module": stored["model"]}
    stored["ema"] = renamed(stored["ema"], lambda name: f"module.{name}") | {"n_averaged": torch.tensor(3)}
    torch.save(stored, tmp_path / "nested.pt")
    found = read_checkpoint(tmp_path / "nested.pt")
    assert found.model.keys() == bare.keys() and found.ema is not None and found.ema.keys() == bare.keys()
    assert all(torch.equal(found.model[name], bare[name]) for name in bare)


def test_keys_that_become_equal_are_refused(tmp_path, capsys):
    stored = raw(IMAGE)
    stored["model"] |= {"module.x_embedder.weight": torch.zeros(2, 2)}
    torch.save(stored, tmp_path / "twice.pt")
    line = refused(["convert", str(tmp_path / "twice.pt"), "--out", str(tmp_path / "out")], capsys)
    assert "'x_embedder.weight' and 'module.x_embedder.weight'" in line
    assert not (tmp_path / "out").exists()


def with_weight(tensor: Any) -> dict[str, Any]:
    stored = raw(IMAGE)
    return stored | {"model": OrderedDict(stored["model"] | {"x_embedder.weight": tensor})}


def endless() -> list[Any]:
    values: list[Any] = []
    values.append(values)
    return values


def doubled() -> Any:
    value: Any = (1,)
    for _ in range(60):
        value = (value, value)
    return value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: with_weight(torch.zeros(1).expand(10**6, 10**5)), "larger than the file"),
        (lambda: with_weight(torch.eye(16).to_sparse()), "dense"),
        (lambda: with_weight(torch.empty(10**6, 10**6, device="meta")), "dense"),
        (lambda: with_weight(torch.full((128, 16), torch.nan)), "finite"),
        (lambda: with_weight(torch.zeros(128, 16, dtype=torch.complex64)), "floating-point"),
        (lambda: with_weight(None), "NoneType"),
        (lambda: raw(IMAGE) | {"model": OrderedDict({7: torch.zeros(1)})}, "a key is 7"),
        (
            lambda: raw(IMAGE) | {"args": argparse.Namespace(**vars(raw(IMAGE)["args"]), x=endless())},
            "args.x",
        ),
        (
            lambda: raw(IMAGE) | {"args": argparse.Namespace(**vars(raw(IMAGE)["args"]), x=doubled())},
            "args.x",
        ),
        (
            lambda: (
                raw(IMAGE) | {"args": argparse.Namespace(**vars(raw(IMAGE)["args"]) | {"ar_len": 10**300})}
            ),
            "about 301 digits",
        ),
    ],
    ids=["expanded", "sparse", "meta", "nan", "complex", "none", "key", "endless", "doubled", "digits"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_tensors_and_arguments(tmp_path, capsys, content, words, zipped):
    torch.save(content(), tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped)
    line = refused(["convert", str(tmp_path / "bad.pt"), "--out", str(tmp_path / "out")], capsys)
    assert words in line and "bad.pt" in line and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"some text\n",
        b"PK\x03\x04",
        b"\x80",
        b"\x80\x02" + bytes(range(256)),
        DEEP.encode(),
        b"e" * 1000,
    ],
    ids=["empty", "text", "zip", "pickle", "noise", "deep", "letters"],
)
def test_what_is_no_checkpoint_is_told_in_words(tmp_path, capsys, content):
    (tmp_path / "bad.pt").write_bytes(content)
    line = refused(["convert", str(tmp_path / "bad.pt"), "--out", str(tmp_path / "out")], capsys)
    assert "torch.save" in line or "more than tensors" in line
    assert "weights_only" not in line and not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [None, 7, "x", [], [4, -4], [4, 4.5], [10**9, 10**9], [[4], 4]], ids=str)
@pytest.mark.parametrize("key", ["grid", "block", "patch", "vae_scale_factor"])
def test_hostile_layouts_of_converted_video(tmp_path, capsys, key, change):
    import json

    assert main(["convert", str(IMAGE.with_name("published-vid.pt")), "--out", str(tmp_path / "model")]) == 0
    described = tmp_path / "model" / "layout.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {key: change}))
    words = ["convert", str(tmp_path / "model"), "--to-published", "--out", str(tmp_path / "x.pt")]
    if (key, change) == ("vae_scale_factor", 7):
        return
    assert "layout.json is damaged" in refused(words, capsys)


def test_a_pipe_is_no_checkpoint(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(UserError, match="not a file"):
        read_checkpoint(tmp_path / "pipe.pt")
