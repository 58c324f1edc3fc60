"""Checkpoints: exact, whole or not at all, no pickle; and the files and folders that they are made of."""

import json
import os
import random
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from acdit.training.checkpoint import (
    STATE_FILE,
    fill,
    newest_checkpoint,
    prune_checkpoints,
    read_part,
    save_checkpoint,
    validation_losses,
)
from acdit.training.learner import optimizer_tensors, start_moments
from acdit.utils.errors import UserError
from tests.permissions import as_nobody, protected_places
from tests.training.small import unequal


def example(step=7, seed=0):
    """State and tensors of a checkpoint."""
    source = torch.Generator().manual_seed(seed)
    tensors = {
        "model.blocks.0.weight": torch.randn(4, 3, generator=source),
        "model.half": torch.randn(5, generator=source).bfloat16(),
        "model.strided": torch.randn(4, 6, generator=source).t()[::2],
        "ema.odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
    }
    recipe = {"name": "x", "optimizer": {"betas": [0.9, 0.95]}, "out": None}
    return {"step": step, "recipe": recipe, "network": {"num_layers": 1}}, tensors


def saved(folder, step=7, seed=0, keep=2, keep_every=0, validation=None):
    state, tensors = example(step, seed)
    return save_checkpoint(
        folder, state | {"validation": validation}, tensors, keep=keep, keep_every=keep_every
    )


def newest(folder):
    stored = newest_checkpoint(folder)
    assert stored is not None
    return stored


def files(folder: Path):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def bits(tensors):
    return {name: tensor.contiguous().view(torch.uint8) for name, tensor in tensors.items()}


def test_round_trip_bit_for_bit(tmp_path):
    state, tensors = example()
    assert save_checkpoint(tmp_path, state, tensors, keep=2) == tmp_path / "step-00000007"
    stored = newest(tmp_path)
    assert stored.step == 7 and {name: stored.state[name] for name in state} == state
    parts = {part: read_part(stored, part) for part in ("model", "ema")}
    read = {f"{part}.{name}": tensor for part, held in parts.items() for name, tensor in held.items()}
    filled = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    fill(stored, filled)
    for found in (read, filled):
        assert unequal(bits(found), bits(tensors)) == []
        assert all(found[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_there_is_none_in_an_empty_or_missing_folder(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "missing") is None


def test_no_pickle_on_disk(tmp_path):
    path = saved(tmp_path)
    assert len(files(path)) == 2
    for file in path.iterdir():
        start = file.read_bytes()[:9]
        assert start[:1] == b"{" or start[8:] == b"{"  # JSON, or a safetensors header behind its length


def test_the_newest_is_loaded_and_the_last_are_kept(tmp_path):
    for step in (2, 9, 10, 100):
        saved(tmp_path, step, seed=step)
    assert sorted(os.listdir(tmp_path)) == ["step-00000010", "step-00000100"]
    stored = newest(tmp_path)
    assert stored.step == 100
    assert torch.equal(read_part(stored, "model")["half"], example(seed=100)[1]["model.half"])


@pytest.mark.parametrize("keep", [1, 2, 3, 4, 5, 10])
def test_keep_last_k(tmp_path, keep):
    for step in range(1, 6):
        saved(tmp_path, step, keep=keep)
    assert sorted(os.listdir(tmp_path)) == [f"step-{step:08d}" for step in range(1, 6)][-keep:]


def test_every_nth_and_the_best_are_kept_besides(tmp_path):
    losses = {1: 0.5, 2: None, 3: 0.2, 4: 0.4, 5: 0.2, 6: None, 7: 0.9, 8: 0.3}
    for step, loss in losses.items():
        saved(tmp_path, step, keep=1, keep_every=4, validation=loss)
    assert sorted(os.listdir(tmp_path)) == ["step-00000003", "step-00000004", "step-00000008"]


def test_the_best_is_that_of_one_set_of_validation_data(tmp_path):
    for step, (loss, images, every) in enumerate([(0.1, 8, 1), (0.6, 4, 1), (0.5, 4, 2), (0.7, 4, 2)], 1):
        state, tensors = example(step)
        recipe = state["recipe"] | {"validation": {"every": every, "images": images}}
        save_checkpoint(tmp_path, state | {"recipe": recipe, "validation": loss}, tensors, keep=4)
    measured = validation_losses(tmp_path)
    assert list(measured.values()) == [0.6, 0.5, 0.7]
    assert list(validation_losses(tmp_path, {"validation": {"every": 5, "images": 8}}).values()) == [0.1]
    prune_checkpoints(tmp_path, 1, 0)
    assert sorted(os.listdir(tmp_path)) == ["step-00000003", "step-00000004"]


def test_the_same_step_again_replaces_the_checkpoint(tmp_path):
    saved(tmp_path, seed=0)
    saved(tmp_path, seed=1)
    assert os.listdir(tmp_path) == ["step-00000007"]
    assert torch.equal(read_part(newest(tmp_path), "model")["half"], example(seed=1)[1]["model.half"])


@contextmanager
def small_disk():
    """Files of this process can have 300 bytes: what is written is cut off there, as on a full disk."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def contents(folder):
    return {file: (folder / file).read_bytes() for file in files(folder)}


def test_a_failure_while_writing_leaves_the_old_checkpoints_alone(tmp_path):
    saved(tmp_path, 5, seed=5, keep=1)
    before = contents(tmp_path)
    for step in (5, 6):
        refused = pytest.raises(OSError, match=f"step-0000000{step} cannot be written: ")
        with refused as caught, small_disk():
            saved(tmp_path, step, keep=1)
        assert "too large" in str(caught.value) and "\n" not in str(caught.value)
    assert contents(tmp_path) == before and os.listdir(tmp_path) == ["step-00000005"]
    assert newest(tmp_path).step == 5


def test_a_failure_at_the_first_checkpoint_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="cannot be written"), small_disk():
        saved(tmp_path)
    assert os.listdir(tmp_path) == [] and newest_checkpoint(tmp_path) is None


def test_what_a_killed_process_left_is_no_checkpoint(tmp_path):
    saved(tmp_path, 5, keep=1)
    for name in (".step-00000009.123.partial", ".step-00000005.123.old", "step-9", "step-00000009.bak"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half a fi")
    assert newest(tmp_path).step == 5
    assert sorted(os.listdir(tmp_path)) == ["step-00000005", "step-00000009.bak", "step-9"]
    saved(tmp_path, 6, keep=1)
    assert newest(tmp_path).step == 6
    assert not (tmp_path / "step-00000005").exists()


def test_one_that_was_being_replaced_when_the_process_died_comes_back(tmp_path):
    saved(tmp_path, 5).rename(tmp_path / ".step-00000005.123.old")
    (tmp_path / ".step-00000005.123.partial").mkdir()
    assert newest(tmp_path).step == 5
    assert os.listdir(tmp_path) == ["step-00000005"]


@pytest.mark.parametrize("place", range(12))
def test_a_flipped_bit_anywhere_is_found(tmp_path, place, capsys):
    """In the tensors, their header, or the state; the checkpoint before is taken, and nothing is lost."""
    saved(tmp_path, 5, keep=5)
    path = saved(tmp_path, 6, keep=5)
    (weights,) = path.glob("*.safetensors")
    file = path / STATE_FILE if place < 4 else weights
    content = bytearray(file.read_bytes())
    content[random.Random(place).randrange(len(content) - 1)] ^= 1
    file.write_bytes(content)
    assert newest(tmp_path).step == 5
    assert sorted(os.listdir(tmp_path)) == ["step-00000005", "step-00000006.damaged"]
    assert "step-00000006 is damaged" in capsys.readouterr().err
    saved(tmp_path, 6, keep=1)
    assert newest(tmp_path).step == 6


def test_a_missing_file_is_damage_too(tmp_path):
    saved(tmp_path, 5, keep=5)
    for file in saved(tmp_path, 6, keep=5).glob("*.safetensors"):
        file.unlink()
    assert newest(tmp_path).step == 5


@pytest.mark.parametrize("name", [STATE_FILE, "*.safetensors"])
def test_one_that_may_not_be_read_is_no_damage(name):
    with protected_places() as place:
        for file in saved(place / "checkpoints", 5).glob(name):
            file.chmod(0)
        (place / "checkpoints").chmod(0o777)

        def message() -> str:
            with pytest.raises(UserError) as refused:
                newest_checkpoint(place / "checkpoints")
            return str(refused.value)

        assert "cannot be read: Permission denied; the checkpoint may be sound" in as_nobody(message)
        assert os.listdir(place / "checkpoints") == ["step-00000005"]


def test_nothing_but_damage_is_no_new_start(tmp_path):
    (saved(tmp_path) / STATE_FILE).write_text("{")
    for _ in range(2):  # nor at the second try, when it has been renamed
        with pytest.raises(UserError, match=r"every checkpoint in .* is damaged; remove"):
            newest_checkpoint(tmp_path)


def test_one_that_cannot_be_removed_is_said(capfd):
    with protected_places() as place:
        folder = place / "checkpoints"
        for step in (5, 6):
            saved(folder, step)
        folder.chmod(0o777)
        (folder / "step-00000005").chmod(0o555)
        as_nobody(lambda: prune_checkpoints(folder, 1, 0))
        assert sorted(os.listdir(folder)) == ["step-00000005", "step-00000006"]
    assert "step-00000005 cannot be removed: state.json: Permission denied" in capfd.readouterr().err


def test_a_newer_format_is_refused(tmp_path):
    path = saved(tmp_path)
    state = json.loads((path / STATE_FILE).read_text())
    del state["digest"]
    (path / STATE_FILE).write_text(json.dumps(state | {"format_version": state["format_version"] + 1}))
    with pytest.raises(UserError, match=r"step-00000007 .*format version 3.*upgrade") as caught:
        newest_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def stepped(optimizer, parameters, steps):
    for step in steps:
        for place, parameter in enumerate(parameters):
            source = torch.Generator().manual_seed(10 * step + place)
            parameter.grad = torch.randn(parameter.shape, generator=source)
        optimizer.step()


def test_a_restored_optimizer_goes_on_bit_for_bit(tmp_path):
    names = ["a", "b"]

    def fresh():
        parameters = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(4))]
        return parameters, torch.optim.AdamW(parameters, lr=0.1, betas=(0.8, 0.9), weight_decay=0.1)

    straight, optimizer = fresh()
    stepped(optimizer, straight, range(6))
    first, before = fresh()
    stepped(before, first, range(3))
    save_checkpoint(tmp_path, {"step": 3}, optimizer_tensors(before, names), keep=1)
    second, after = fresh()
    for parameter, value in zip(second, first, strict=True):
        parameter.data.copy_(value.data)
    start_moments(after, 3)
    fill(newest(tmp_path), optimizer_tensors(after, names))
    assert unequal(optimizer_tensors(after, names), optimizer_tensors(before, names)) == []
    stepped(after, second, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(second, straight, strict=True))


def test_optimizer_tensors_are_named_by_state_and_parameter():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    assert optimizer_tensors(optimizer, ["a"]) == {}
    stepped(optimizer, [parameter], range(1))
    assert set(optimizer_tensors(optimizer, ["a"])) == {"exp_avg.a", "exp_avg_sq.a"}
