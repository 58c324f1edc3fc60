"""Any number of processes train as one does, stop as one, and go on from each other's checkpoints."""

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import current_process
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from acdit.cli.main import main
from acdit.training.checkpoint import newest_checkpoint, read_part
from acdit.training.loop import train
from acdit.training.monitoring import Watch
from acdit.training.recipes import recipe_to_yaml
from acdit.training.run import Run
from acdit.utils.errors import UserError
from acdit.utils.ranks import launched
from tests.processes import PATIENCE, Processes, on_ranks, started
from tests.training.small import advance, relative_error, small_recipe, unequal

ROOT = Path(__file__).parents[2]
MIXED: dict[str, Any] = {"layout": {"blocks": ["2x2", "4x4", "2x4"]}, "data": {"source": "digits"}}


def train_some(folder, changes, steps, dtype=torch.float32, save=False):
    """Losses and gradient norms of some steps of a run, on this rank."""
    torch.set_default_dtype(dtype)
    ranks = launched()
    with ranks.joined():
        run = Run(small_recipe(folder, **changes), ranks)
        done = advance(run, steps)
        if save:
            run.save()
    return [(result.loss, result.gradient_norm) for result in done]


@pytest.mark.parametrize("accumulation", [pytest.param(1, marks=pytest.mark.long), 2])
def test_two_ranks_train_as_one_in_float64(tmp_path, accumulation):
    """Losses and gradient norms over 20 steps, weights replicated and sharded."""
    training = {"steps": 20, "accumulation": accumulation, "gradient_checkpointing": accumulation == 2}
    changes = MIXED | {"training": training}
    (alone,) = on_ranks(train_some, 1, tmp_path / "alone", changes, 20, torch.float64)
    assert len(alone) == 20 and alone[0][1] > 1
    for parallel in ("ddp", "fsdp"):
        changes = MIXED | {"training": training | {"parallel": parallel}}
        for found in on_ranks(train_some, 2, tmp_path / parallel, changes, 20, torch.float64):
            assert torch.allclose(torch.tensor(found), torch.tensor(alone), rtol=1e-9, atol=0), parallel


def parts(folder):
    stored = newest_checkpoint(folder / "checkpoints")
    assert stored is not None
    tensors = {
        f"{part}.{name}": tensor
        for part in ("model", "ema", "exp_avg", "exp_avg_sq")
        for name, tensor in read_part(stored, part).items()
    }
    return stored.state, tensors


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_resume_bit_for_bit(tmp_path, parallel):
    """Mid-epoch, with accumulation and mixed blocks; all that a checkpoint holds, and the next losses."""
    changes = MIXED | {"training": {"steps": 9, "accumulation": 3, "parallel": parallel}}
    straight = on_ranks(train_some, 2, tmp_path / "straight", changes, 9, torch.float32, True)
    first = on_ranks(train_some, 2, tmp_path / "stopped", changes, 4, torch.float32, True)
    second = on_ranks(train_some, 2, tmp_path / "stopped", changes, 5, torch.float32, True)
    assert [a + b for a, b in zip(first, second, strict=True)] == straight
    assert unequal(parts(tmp_path / "stopped")[1], parts(tmp_path / "straight")[1]) == []


def communicating(folder):
    """Names of the threads that communicate, in two groups and after them, with runs that go on living."""
    ranks, runs, names = launched(), [], []
    for part in range(2):
        with ranks.joined():
            runs.append(Run(small_recipe(folder / str(part)), ranks))
            advance(runs[-1], 1)
            names += gloo_threads()
    assert [run.step for run in runs] == [1, 1]
    return names, gloo_threads()


def gloo_threads():
    names = (path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))
    return sorted(name for name in names if "gloo" in name)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the names of threads from /proc")
def test_a_group_ends_where_it_is_left(tmp_path):
    """Not when the run is freed, which waited for ever now and then: for a thread that needs the GIL."""
    for inside, after in on_ranks(communicating, 2, tmp_path):
        assert "pt_gloo_runloop" in inside and after == []


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Folder, losses and gradient norms of nine steps of one rank."""
    folder = tmp_path_factory.mktemp("alone")
    changes = MIXED | {"training": {"steps": 9}}
    return folder, on_ranks(train_some, 1, folder, changes, 9, torch.float64, True)[0]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_checkpoint_goes_on_with_another_number_of_ranks(tmp_path, before, after, parallel, alone):
    changes = MIXED | {"training": {"steps": 9, "parallel": parallel}}
    folder, straight = alone
    first = on_ranks(train_some, before, tmp_path / "moved", changes, 4, torch.float64, True)[0]
    second = on_ranks(train_some, after, tmp_path / "moved", changes, 5, torch.float64, True)[0]
    assert torch.allclose(torch.tensor(first + second), torch.tensor(straight), rtol=1e-9, atol=0)
    (state, tensors), (_, expected) = parts(tmp_path / "moved"), parts(folder)
    assert state["ranks"] == after
    for name, tensor in expected.items():
        if tensor.norm():
            assert relative_error(tensors[name], tensor) < 1e-9, name


def train_to_the_end(folder, changes):
    return train(small_recipe(folder, **changes))


def wait_for_step(folder, step):
    """Until a run's log has come so far."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        log = folder / "log.jsonl"
        if log.exists() and len(log.read_text().splitlines()) >= step:
            return
        time.sleep(0.01)
    raise AssertionError("the run does not start")


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_signal_to_one_rank_stops_all_after_their_step(tmp_path, number):
    endless = {"training": {"steps": 10**6, "checkpoint_every": 10**6, "log_every": 1}}
    ranks = Processes(train_to_the_end, 2, tmp_path / "run", endless)
    wait_for_step(tmp_path / "run", 3)
    os.kill(ranks.processes[1].pid or 0, number)
    assert ranks.results() == [None, None] and ranks.wait() == [0, 0]
    state, _ = parts(tmp_path / "run")
    assert state["step"] >= 3
    assert not (tmp_path / "run" / "pipeline").exists()
    # and goes on as if nothing had happened
    steps = state["step"] + 3
    on_ranks(train_to_the_end, 2, tmp_path / "run", {"training": {"steps": steps}})
    on_ranks(train_to_the_end, 2, tmp_path / "straight", {"training": {"steps": steps}})
    assert unequal(parts(tmp_path / "run")[1], parts(tmp_path / "straight")[1]) == []


def test_a_signal_to_the_whole_job_is_answered_by_the_run_alone(tmp_path):
    """Schedulers of jobs and terminals signal the processes that load data too."""
    # not above: it imports `datasets`, which every rank would import again
    from tests.data.test_images import encoded, write

    folder = write(tmp_path / "pictures", {f"{number}.png": encoded(number) for number in range(20)})
    # one process that loads data: it imports the package anew, which takes seconds
    options = ["--data.source", folder, "--data.image_size", "8", "--data.workers", "1"]
    options += ["--training.steps", "1000000", "--training.checkpoint_every", "1000000"]
    options += ["--training.log_every", "1", "--training.batch_size", "4", "--out", tmp_path / "run"]
    words = ["train", "digits", *map(str, options)]
    process = started(train_in_a_session, str(tmp_path / "said"), words)
    wait_for_step(tmp_path / "run", 3)
    os.killpg(process.pid or 0, signal.SIGTERM)
    process.join(PATIENCE)
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 0, said
    stored = newest_checkpoint(tmp_path / "run" / "checkpoints")
    assert stored is not None and f"stopped after step {stored.step};" in said


def train_in_a_session(said, words):
    """The command in a session of its own, with its errors in a file."""
    os.setsid()
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT, 0o644), 2)
    current_process().daemon = False  # daemons may not start the processes that load data
    sys.exit(main(words))


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    endless = {"training": {"steps": 10**6, "checkpoint_every": 10**6, "log_every": 1}}
    ranks = Processes(train_in_slow_steps, 1, tmp_path / "run", endless)
    wait_for_step(tmp_path / "run", 1)
    for pause in (3.0, 0.0):
        os.kill(ranks.processes[0].pid or 0, signal.SIGTERM)
        time.sleep(pause)
    assert ranks.wait() == [-signal.SIGTERM]
    assert newest_checkpoint(tmp_path / "run" / "checkpoints") is None


def train_in_slow_steps(folder, changes):
    """A run that waits for an hour after its first step."""

    def slow(self: Watch) -> None:
        deadline = time.monotonic() + 3600
        while time.monotonic() < deadline:
            time.sleep(0.1)

    Watch.resume_clock = slow
    return train_to_the_end(folder, changes)


def test_ranks_are_counted_where_no_launcher_says_how_many(tmp_path):
    with pytest.raises(UserError, match=r"world_size is 2, but no launcher .*torchrun"):
        train(small_recipe(tmp_path, training={"world_size": 2}))
    assert os.listdir(tmp_path) == []


@pytest.mark.long
def test_two_ranks_make_the_files_of_one(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    training = {"steps": 4, "sample_every": 2, "trackers": ["tensorboard"]}
    recipe = small_recipe(alone, training=training, sampling={"steps": 2}, validation={"every": 2})
    train(recipe)
    (tmp_path / "recipe.yaml").write_text(recipe_to_yaml(recipe))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "acdit", "train"]
    done = subprocess.run(
        [*launch, str(tmp_path / "recipe.yaml"), "--out", str(together), "--training.parallel", "fsdp"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    names = [
        sorted(
            str(file.relative_to(run))
            for file in run.rglob("*")
            if "tfevents" not in file.name and "checkpoints" not in str(file)
        )
        for run in (alone, together)
    ]
    assert names[0] == names[1]  # the same files, and no half-written ones
    assert len(list(together.rglob("*tfevents*"))) == 1
    for file in names[0]:
        if file.endswith(".safetensors"):
            expected, found = load_file(alone / file), load_file(together / file)
            assert expected.keys() == found.keys()
            for name, tensor in expected.items():
                if tensor.norm():
                    assert relative_error(found[name], tensor) < 1e-4, (file, name)
    logs = [(run / "log.jsonl").read_text().splitlines() for run in (alone, together)]
    for line, other in zip(*logs, strict=True):
        a, b = json.loads(line), json.loads(other)
        assert a.keys() == b.keys() and a["step"] == b["step"]
        if "validation" in a:
            assert b["validation"]["loss"] == pytest.approx(a["validation"]["loss"], rel=1e-4)


@pytest.mark.long
def test_a_rank_that_dies_ends_the_others(tmp_path):
    """Within the minute that the launcher and this test's patience allow, and its end is told."""
    endless = {"steps": 10**6, "checkpoint_every": 5, "log_every": 1}
    recipe = small_recipe(tmp_path / "run", training=endless)
    (tmp_path / "recipe.yaml").write_text(recipe_to_yaml(recipe))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "acdit", "train"]
    launcher = subprocess.Popen(
        [*launch, str(tmp_path / "recipe.yaml")], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    wait_for_step(tmp_path / "run", 12)
    children = subprocess.run(["pgrep", "-P", str(launcher.pid)], capture_output=True, text=True).stdout
    os.kill(int(children.split()[-1]), signal.SIGKILL)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode not in (0, None)
    assert "Signal 9 (SIGKILL)" in said
    state, _ = parts(tmp_path / "run")
    assert state["step"] >= 5
