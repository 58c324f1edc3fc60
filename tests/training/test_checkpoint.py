"""Checkpoints: exact, whole or not at all, no pickle; and the files and folders that they are made of."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from acdit.errors import UserError
from acdit.files import check_writable, whole
from acdit.training import checkpoint as checkpoints
from acdit.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from tests.training.small import unequal


def example(step=7, seed=0):
    source = torch.Generator().manual_seed(seed)
    weights = {
        "blocks.0.weight": torch.randn(4, 3, generator=source),
        "half": torch.randn(5, generator=source).bfloat16(),
        "strided": torch.randn(4, 6, generator=source).t()[::2],
        "odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
    }
    shadow = {name: tensor + 1 for name, tensor in weights.items() if name != "odd"}
    recipe = {"name": "x", "optimizer": {"betas": [0.9, 0.95]}, "out": None}
    return Checkpoint(
        step,
        recipe,
        {"num_layers": 1},
        {"model": weights, "ema": shadow, "optimizer": {"0.step": torch.tensor(3.0)}},
    )


def files(folder: Path):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def bits(tensor):
    return tensor.contiguous().view(torch.uint8) if tensor.ndim else tensor


def test_round_trip_bit_for_bit(tmp_path):
    saved = example()
    path = save_checkpoint(tmp_path, saved, keep=2)
    assert path == tmp_path / "step-00000007"
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert (loaded.step, loaded.recipe) == (7, saved.recipe)
    assert loaded.tensors.keys() == saved.tensors.keys()
    for name, tensors in saved.tensors.items():
        of_bits = (
            {key: bits(value) for key, value in held.items()} for held in (tensors, loaded.tensors[name])
        )
        assert unequal(*of_bits) == []
        assert all(value.dtype == tensors[key].dtype for key, value in loaded.tensors[name].items())


def test_there_is_none_in_an_empty_or_missing_folder(tmp_path):
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "missing") is None


def test_no_pickle_on_disk(tmp_path):
    path = save_checkpoint(tmp_path, example(), keep=2)
    assert files(path) == ["ema.safetensors", "model.safetensors", "optimizer.safetensors", "state.json"]
    for file in path.iterdir():
        start = file.read_bytes()[:9]
        assert start[:1] == b"{" or start[8:] == b"{"  # JSON, or a safetensors header behind its length


def test_the_newest_is_loaded_and_the_last_are_kept(tmp_path):
    for step in (2, 10, 9, 100):  # by number, not by time of writing
        save_checkpoint(tmp_path, example(step, seed=step), keep=2)
    assert sorted(os.listdir(tmp_path)) == ["step-00000010", "step-00000100"]
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None and loaded.step == 100
    assert torch.equal(loaded.tensors["model"]["half"], example(seed=100).tensors["model"]["half"])


@pytest.mark.parametrize("keep", [1, 3])
def test_keep_last_k(tmp_path, keep):
    for step in range(1, 6):
        save_checkpoint(tmp_path, example(step), keep)
    assert len(os.listdir(tmp_path)) == keep


def test_the_same_step_again_replaces_the_checkpoint(tmp_path):
    save_checkpoint(tmp_path, example(seed=0), keep=2)
    save_checkpoint(tmp_path, example(seed=1), keep=2)
    assert os.listdir(tmp_path) == ["step-00000007"]
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded.tensors["model"]["half"], example(seed=1).tensors["model"]["half"])


def fail_at_the_second_file(monkeypatch):
    written = []

    def failing(tensors, file):
        if written:
            Path(file).write_bytes(b"half a fi")
            raise OSError(28, "No space left on device")
        written.append(file)
        save_file(tensors, file)

    monkeypatch.setattr(checkpoints, "save_file", failing)


def test_a_failure_while_writing_leaves_the_old_checkpoints_alone(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, example(5, seed=5), keep=1)
    before = {file: (tmp_path / file).read_bytes() for file in files(tmp_path)}
    with monkeypatch.context() as patched:
        fail_at_the_second_file(patched)
        for step in (5, 6):
            with pytest.raises(OSError, match="No space"):
                save_checkpoint(tmp_path, example(step), keep=1)
    assert {file: (tmp_path / file).read_bytes() for file in files(tmp_path)} == before
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None and loaded.step == 5


def test_a_failure_at_the_first_checkpoint_leaves_nothing(tmp_path, monkeypatch):
    fail_at_the_second_file(monkeypatch)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, example(), keep=1)
    assert os.listdir(tmp_path) == [] and load_checkpoint(tmp_path) is None


def test_what_a_killed_process_left_is_no_checkpoint(tmp_path):
    save_checkpoint(tmp_path, example(5), keep=1)
    for name in (".step-00000009.123.partial", ".step-00000009.123.old", "step-9", "step-00000009.bak"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half a fi")
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None and loaded.step == 5
    save_checkpoint(tmp_path, example(6), keep=1)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None and loaded.step == 6
    assert not (tmp_path / "step-00000005").exists()


def test_a_newer_format_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, example(), keep=1)
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | {"format_version": state["format_version"] + 1}))
    with pytest.raises(UserError, match=r"step-00000007 .*format version 2.*upgrade") as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def stepped(optimizer, parameters, steps):
    for step in steps:
        for place, parameter in enumerate(parameters):
            source = torch.Generator().manual_seed(10 * step + place)
            parameter.grad = torch.randn(parameter.shape, generator=source)
        optimizer.step()


def test_a_restored_optimizer_goes_on_bit_for_bit():
    def fresh():
        parameters = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(4))]
        return parameters, torch.optim.AdamW(parameters, lr=0.1, betas=(0.8, 0.9), weight_decay=0.1)

    straight, optimizer = fresh()
    stepped(optimizer, straight, range(6))
    first, before = fresh()
    stepped(before, first, range(3))
    second, after = fresh()
    for parameter, value in zip(second, first, strict=True):
        parameter.data.copy_(value.data)
    restore_optimizer(after, optimizer_tensors(before))
    assert unequal(optimizer_tensors(after), optimizer_tensors(before)) == []
    stepped(after, second, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(second, straight, strict=True))


def test_optimizer_tensors_are_named_by_parameter_and_state():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    assert optimizer_tensors(optimizer) == {}
    stepped(optimizer, [parameter], range(1))
    assert set(optimizer_tensors(optimizer)) == {"0.step", "0.exp_avg", "0.exp_avg_sq"}


def test_whole_file(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole(path) as aside:
        aside.write_text("one")
        assert (
            not path.exists() and aside.parent == path.parent
        )  # a rename works within one file system alone
    assert path.read_text() == "one"
    with pytest.raises(RuntimeError, match="midway"), whole(path) as aside:
        aside.write_text("tw")
        raise RuntimeError("midway")
    assert path.read_text() == "one"
    with whole(path) as aside:
        aside.write_text("two")
    assert path.read_text() == "two" and os.listdir(path.parent) == ["a.txt"]


def test_whole_folder(tmp_path):
    path = tmp_path / "a"
    for name in ("one", "two"):
        with whole(path) as aside:
            (aside / "deep").mkdir(parents=True)
            (aside / "deep" / name).write_text(name)
            assert not path.exists() or files(path) == ["deep/one"]
        assert files(path) == [f"deep/{name}"]  # nothing of the old folder
    with pytest.raises(KeyboardInterrupt), whole(path) as aside:
        aside.mkdir()
        raise KeyboardInterrupt
    assert files(path) == ["deep/two"] and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("folder", [False, True])
def test_what_was_written_aside_is_renamed_not_copied(tmp_path, folder):
    """A copy could be seen, or left behind, half made."""
    with whole(tmp_path / "a") as aside:
        aside.mkdir() if folder else aside.write_text("one")
        written = aside.stat().st_ino
    assert (tmp_path / "a").stat().st_ino == written


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    """`--out results` where `results` is a folder must not cost the user that folder."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "precious").write_text("x")
    with pytest.raises(OSError), whole(tmp_path / "results") as aside:
        aside.write_text("a file")
    assert files(tmp_path) == ["results/precious"]


def test_check_writable_accepts_what_can_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in ("file", "new", "deep/er/new"):
        check_writable(tmp_path / path)
    assert os.listdir(tmp_path) == ["file"]


def test_check_writable_refuses_a_place_inside_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "new", tmp_path / "file" / "deep" / "new"):
        with pytest.raises(UserError, match="cannot be written") as caught:
            check_writable(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_check_writable_refuses_protected_places(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0o400)
    with pytest.raises(UserError, match="write-protected"):
        check_writable(tmp_path / "file")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="may write"):
            check_writable(tmp_path / "new")
    finally:
        tmp_path.chmod(0o700)
