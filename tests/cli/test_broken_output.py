"""Commands whose output cannot be written: a reader that has gone, and a full disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "acdit"]


@pytest.mark.parametrize("words", [["completion", "bash"], ["--help"]], ids=" ".join)
def test_a_reader_that_has_gone_ends_the_command_quietly(words):
    """Of output that is longer than what a buffer holds, and of shorter one."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*COMMAND, *words], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_on_a_full_disk_is_an_error_of_one_line():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "--version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (2, "acdit: error: No space left on device\n")


def test_a_broken_pipe_elsewhere_is_an_error():
    """Of a pipe of the command's own, while its output is read."""
    program = (
        "import sys\n"
        "from acdit.cli import main as entry\n"
        "def broken(words): raise BrokenPipeError(32, 'Broken pipe')\n"
        "entry._run = broken\n"
        "sys.exit(entry.main(['info']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "acdit: error: Broken pipe\n")
