"""What goes wrong at night: kills, full disks, poisoned batches, damaged pictures."""

import json
import os
import random
import signal
import subprocess
import time
from typing import Any

import pytest

from acdit.training.checkpoint import newest_checkpoint
from acdit.training.loop import train
from acdit.training.run import Run
from acdit.utils.errors import UserError
from tests.processes import Processes
from tests.training.small import advance, all_state, damaged_pictures, small_recipe, unequal
from tests.training.test_ranks import parts, train_to_the_end


def poison(run, samples):
    """Let images of a run's data be not a number."""
    run.data.data = run.data.data.clone()
    run.data.data[samples] = float("nan")


def test_a_step_with_a_poisoned_sample_changes_nothing_and_is_counted(tmp_path):
    run = Run(small_recipe(tmp_path / "run", training={"steps": 4}))
    (first,) = advance(run, 1)
    before = all_state(run)
    stepping = run.steps()
    clean = run.data.data  # pyright: ignore[reportAttributeAccessIssue]
    poison(run, slice(None))
    bad = next(stepping)
    assert bad.step == 2 and len(bad.bad_samples) == 12 and not first.bad_samples
    assert unequal(all_state(run), before) == []
    run.data.data = clean  # pyright: ignore[reportAttributeAccessIssue]
    good = next(stepping)
    assert not good.bad_samples and unequal(all_state(run), before) != []
    assert (run.progress.skipped, run.progress.skipped_in_a_row, run.progress.updates) == (1, 0, 2)
    run.save()
    assert Run(small_recipe(tmp_path / "run", training={"steps": 4})).progress == run.progress


def test_the_sample_that_is_to_blame_is_named(tmp_path):
    run = Run(small_recipe(tmp_path / "run", training={"steps": 200, "accumulation": 3}))
    poison(run, [7])
    for done in run.steps():
        if done.bad_samples:
            assert done.bad_samples == (7,)
            return
    raise AssertionError("no step had the sample")


def test_ten_poisoned_steps_in_a_row_end_the_run_with_its_state_saved(tmp_path, monkeypatch, capsys):
    recipe = small_recipe(tmp_path / "run", training={"steps": 40})
    made = Run.__init__

    def poisoned(run, *arguments, **options):
        made(run, *arguments, **options)
        poison(run, slice(None))

    with monkeypatch.context() as patched:
        patched.setattr(Run, "__init__", poisoned)
        with pytest.raises(
            UserError, match=r"not finite in 10 steps in a row, .*step 10, .*samples \d+, "
        ) as caught:
            train(recipe)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().err.count("was skipped: loss nan") == 10
    state, tensors = parts(tmp_path / "run")
    assert state["progress"] == {"step": 10, "skipped": 10, "skipped_in_a_row": 10}
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    train(recipe)  # goes on with what the user has mended
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == [10, 20, 30, 40]
    assert entries[0]["loss"] is None and entries[0]["skipped"] == 10 and entries[-1]["loss"] > 0


def test_a_full_disk_keeps_the_old_checkpoint_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        filler, whole_save = disk / "filler", Run.save

        def save(run):
            """The disk is full at the second of three checkpoints."""
            if run.step == 4:
                with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
                    while True:
                        file.write(bytes(4096))
            elif run.step == 6:
                filler.unlink()
            try:
                whole_save(run)
            finally:
                found = newest_checkpoint(disk / "run" / "checkpoints")
                assert found is not None and found.step == (2 if run.step == 4 else run.step)

        monkeypatch.setattr(Run, "save", save)
        due = {"checkpoint_every": 2, "sample_every": 4}
        changes: dict[str, Any] = {"training": {"steps": 6, "keep_checkpoints": 1, **due}}
        assert train(small_recipe(disk / "run", **changes)) == disk / "run" / "pipeline"
        said = capsys.readouterr().err
        assert "step-00000004 cannot be written" in said and "the checkpoint of step 2 is kept" in said
        assert "the samples of step 4 are missing, and the run continues" in said
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_too_many_damaged_pictures_end_the_run_with_its_state_saved(tmp_path):
    data = {
        "source": damaged_pictures(tmp_path / "pictures", every=2),
        "image_size": 8,
        "channels": 1,
        "max_unreadable": 5,
    }
    with pytest.raises(UserError, match=r"images cannot be read, more than data.max_unreadable 5; .*\.png: "):
        train(small_recipe(tmp_path / "run", data=data))
    assert parts(tmp_path / "run")[0]["step"] == 1
    path = train(small_recipe(tmp_path / "run", data=data | {"max_unreadable": 12}))
    assert path == tmp_path / "run" / "pipeline"


def test_no_file_of_a_run_needs_pickle(tmp_path, monkeypatch):
    """All that a run writes is read again with unpickling disabled, and nothing looks like a pickle."""
    training = {"steps": 4, "checkpoint_every": 2, "sample_every": 2}
    recipe = small_recipe(tmp_path / "run", training=training, validation={"every": 2}, sampling={"steps": 2})
    train(recipe)

    def refuse(*_, **__):
        raise AssertionError("unpickled")

    for name in ("pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load"):
        monkeypatch.setattr(name, refuse)
    train(recipe)
    Run(
        small_recipe(
            tmp_path / "run", training=training | {"steps": 5}, validation={"every": 2}, sampling={"steps": 2}
        )
    )
    for file in (tmp_path / "run").rglob("*"):
        if file.is_file():
            assert file.suffix in {".safetensors", ".json", ".jsonl", ".png", ".py", ".md"}, file
            assert not file.read_bytes().startswith((b"\x80", b"PK"))


@pytest.mark.long
def test_twenty_kills_at_random_moments_change_nothing(tmp_path):
    """SIGKILL at any moment, while a checkpoint is written included, and the same command again."""
    changes: dict[str, Any] = {
        "training": {"steps": 400, "checkpoint_every": 1, "keep_checkpoints": 2},
        "layout": {"blocks": ["2x2", "4x4"]},
    }
    draw = random.Random(0)
    reached, saving = [], 0
    for _ in range(20):
        process = Processes(train_to_the_end, 1, tmp_path / "killed", changes)
        stored = newest_at_least(tmp_path / "killed", (reached or [0])[-1] + 1)
        time.sleep(draw.random() * 0.3)
        os.kill(process.processes[0].pid or 0, signal.SIGKILL)
        assert process.wait() == [-signal.SIGKILL]
        saving += bool(list((tmp_path / "killed" / "checkpoints").glob(".*")))
        reached.append(stored)
    assert saving  # some of the kills met a checkpoint that was being written
    on_end = Processes(train_to_the_end, 1, tmp_path / "killed", changes).results()
    assert on_end == Processes(train_to_the_end, 1, tmp_path / "killed", changes).results()
    Processes(train_to_the_end, 1, tmp_path / "straight", changes).results()
    assert unequal(parts(tmp_path / "killed")[1], parts(tmp_path / "straight")[1]) == []
    pipelines = [
        {
            file.relative_to(folder): file.read_bytes()
            for file in (folder / "pipeline").rglob("*")
            if file.is_file()
        }
        for folder in (tmp_path / "killed", tmp_path / "straight")
    ]
    assert pipelines[0] == pipelines[1]


def newest_at_least(folder, step):
    """Waits for a checkpoint of a step or a later one; its step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        steps = [int(path.name[5:]) for path in folder.glob("checkpoints/step-????????")]
        if max(steps, default=0) >= step:
            return max(steps)
        time.sleep(0.01)
    raise AssertionError("the run does not get on")
