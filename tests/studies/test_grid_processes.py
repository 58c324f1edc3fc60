"""Grids of several processes: killed, at the same time, and with several jobs."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from acdit.studies.design import run_study
from acdit.studies.grid import train_grid
from acdit.studies.run_store import RunStore
from acdit.utils.errors import UserError
from tests.processes import Processes
from tests.studies.grids import design, run_tiny_study, spec, states
from tests.tiny import given

CHANGES = {"training.steps": 40, "training.checkpoint_every": 3, "training.log_every": 1}


@pytest.fixture(autouse=True)
def one_thread():
    """As each process has, so that results are equal bit for bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def changed(root: Path) -> dict[str, int]:
    """When each finished run was finished."""
    finished = [name for name, state in states(root).items() if state == "finished"]
    return {name: (root / name / "run.json").stat().st_mtime_ns for name in finished}


def straight(tmp_path: Path) -> str:
    """The report of the study that nothing disturbed."""
    store = RunStore(tmp_path / "straight")
    return given(run_study(design(**CHANGES), tmp_path / "straight-out", store=store)).report


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_processes_with_the_same_runs_train_each_once(tmp_path):
    root = tmp_path / "runs"
    processes = [
        Processes(run_tiny_study, 1, tmp_path / name, root, CHANGES) for name in ("out", "other-out")
    ]
    reports = [process.results() for process in processes]
    assert reports == [[straight(tmp_path)]] * 2
    assert set(states(root).values()) == {"finished"} and len(states(root)) == 3
    for name in states(root):
        log = (root / name / "log.jsonl").read_text().splitlines()
        assert len(log) == 40  # each step once
    assert not list(root.rglob("*.lock")) and not list(root.rglob("*.partial"))


@pytest.mark.long
def test_a_study_that_is_killed_and_run_again_gives_the_same_table(tmp_path):
    root, out = tmp_path / "runs", tmp_path / "out"
    draw, before = random.Random(1), {}
    for _ in range(4):
        process = Processes(run_tiny_study, 1, out, root, CHANGES)
        started = sum(map(len, logs(root).values()))
        wait_for(lambda start=started: sum(map(len, logs(root).values())) > start)
        time.sleep(draw.random() * 0.4)
        os.kill(process.processes[0].pid or 0, signal.SIGKILL)
        process.wait()
        after = changed(root)
        assert after | before == after  # what was finished was not trained again
        before = after
    assert Processes(run_tiny_study, 1, out, root, CHANGES).results() == [straight(tmp_path)]
    after = changed(root)
    assert after | before == after and len(after) == 3


def logs(root: Path) -> dict[str, list[str]]:
    return {path.parent.name: path.read_text().splitlines() for path in root.glob("*/log.jsonl")}


@pytest.mark.long
def test_two_jobs_train_what_one_does(tmp_path, capsys):
    store = RunStore(tmp_path / "runs")
    result = given(run_study(design(**CHANGES), tmp_path / "out", store=store, jobs=2))
    assert result.report == straight(tmp_path)
    err = capsys.readouterr().err
    assert "3 training runs: 100%" in err and "seed 1: 1,438 images" in err


@pytest.mark.long
def test_a_job_that_fails_ends_the_grid_with_its_reason(tmp_path):
    specs = [spec(0, None, {"training.accumulation": 5}), *(spec(seed, None, CHANGES) for seed in (1, 2))]
    with pytest.raises(UserError, match=r"^run seed 0 in .*: training\.batch_size must be a multiple"):
        train_grid(specs, store=RunStore(tmp_path / "runs"), jobs=2)


SCRIPT = """
import sys
from pathlib import Path
from acdit.studies.grid import train_grid
from acdit.studies.run_store import RunStore
from tests.studies.grids import spec
runs = [spec(seed, None, {"training.steps": 4000, "training.log_every": 1}) for seed in (0, 1)]
print(train_grid(runs, store=RunStore(Path(sys.argv[1])), jobs=2))
"""


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_end_with_the_process_that_started_them(number, tmp_path):
    """Asked to stop, it stops its jobs; if it is killed, they notice. Both leave checkpoints."""
    root = tmp_path / "runs"
    command = [sys.executable, "-c", SCRIPT, str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(logs(root)) == 2 and all(logs(root).values()))
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == 2
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    _, alive = psutil.wait_procs(children, timeout=120)
    assert not alive and not list(root.glob("*/.lock"))
    if number == signal.SIGTERM:
        assert out.strip() == "None" and "run the same command again to continue" in err
    assert len(list(root.glob("*/checkpoints/step-*"))) == 2
    assert set(states(root).values()) == {"unfinished"}
