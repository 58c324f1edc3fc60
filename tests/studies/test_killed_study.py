"""Studies of the table, run as commands and killed at random moments: they measure what others do."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from acdit.studies.measurements import FILE
from tests.processes import PATIENCE

KILLS = 5


def start(name: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start the study with a quick budget, with a store of its own."""
    command = [sys.executable, "-m", "acdit", "study", name, "--budget", "quick", "--seeds", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACDIT_RUNS": str(folder / "runs")}
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(
            [*command, "--out", str(folder / "out")], stdout=output, stderr=output, env=environment
        )


def done(folder: Path) -> tuple[int, int]:
    """Number of logged training steps, and of measured rows."""
    path = folder / "out" / FILE
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return sum(len(log.read_text().splitlines()) for log in folder.glob("runs/*/log.jsonl")), len(rows)


def measured(folder: Path) -> dict:
    """The content of the file of measurements, but for seconds."""
    content = json.loads((folder / "out" / FILE).read_text())
    rows = [{key: value for key, value in row.items() if "seconds" not in key} for row in content["rows"]]
    return content | {"rows": rows}


def tables(folder: Path) -> list[list[str]]:
    """The lines of the page, in cells, but for the column of milliseconds."""
    (page,) = (folder / "out").glob("*.md")
    lines = [[cell.strip() for cell in line.split("|")] for line in page.read_text().splitlines()]
    column = next((line.index("ms") for line in lines if "ms" in line), None)
    return [[cell for place, cell in enumerate(line) if place != column or len(line) < 4] for line in lines]


@pytest.mark.long
@pytest.mark.parametrize("name", ["blocks"])
def test_a_killed_study_measures_what_an_undisturbed_one_does(name, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    straight.mkdir()
    killed.mkdir()
    assert start(name, straight).wait(PATIENCE) == 0
    draw, moments = random.Random(name), []
    for _ in range(KILLS):
        before, process = done(killed), start(name, killed)
        deadline = time.monotonic() + PATIENCE
        while done(killed) == before and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(draw.random())
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it was killed before its end
        moments.append(done(killed))
    assert moments == sorted(set(moments)), "each attempt goes on from the one before"
    assert start(name, killed).wait(PATIENCE) == 0
    assert measured(killed) == measured(straight) and tables(killed) == tables(straight)
    assert len(measured(straight)["rows"]) > 10 and len(tables(straight)) > 10
    states = [json.loads(path.read_text())["state"] for path in killed.glob("runs/*/run.json")]
    assert set(states) == {"finished"} and not list(killed.rglob("*.partial"))
