"""Commands whose output cannot be written: a reader that has gone, and a full disk."""

import os
import shlex
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


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_closed_stream_is_written_to_without_effect(closed, tmp_path):
    program = (
        "import sys\n"
        "from acdit.cli import main as entry\n"
        "from acdit.utils.progress_bar import ProgressBar\n"
        "def work(words):\n"
        "    print('result')\n"
        "    for each in ProgressBar(range(3), file=sys.stderr): pass\n"
        "    open('done', 'w').close()\n"
        "entry._run = work\n"
        "sys.exit(entry.main(['info']))\n"
    )
    line = f"{shlex.join([sys.executable, '-c', program])} {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr and (tmp_path / "done").exists()


@pytest.mark.parametrize(
    "error",
    [
        "MemoryError('no room')",
        'RuntimeError("DefaultCPUAllocator: can\'t allocate memory: you tried to allocate 4 bytes.")',
        "RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB')",
    ],
)
def test_too_little_memory_is_an_error_of_one_line(error):
    program = (
        "import sys\n"
        "from acdit.cli import main as entry\n"
        f"def large(words): raise {error}\n"
        "entry._run = large\n"
        "sys.exit(entry.main(['info']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("acdit: error: not enough memory: ")
    assert done.stderr.endswith("; use smaller batches\n") and done.stderr.count("\n") == 1
