"""Processes that train runs of the store together; each takes the next run that no other one trains."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..utils.errors import UserError, line_of
from ..utils.heap import keep_freed_memory
from ..utils.settings import flatten
from .run_store import RunSpec, RunStore
from .train_runs import train_all

ENDED_BY_SIGNAL = 3  # exit code of a worker that a signal has stopped
PREFIX = "acdit: error: "  # of the line that names an error of the user


class Worker:
    """Process that trains runs until all are finished; it stops when this process ends.

    Args:
        specs: Declarations of the runs.
        root: Folder of the store.
        threads: Number of threads of the process.
        gpu: Value of `CUDA_VISIBLE_DEVICES`, or None to leave it as it is.
    """

    def __init__(self, specs: Sequence[RunSpec], root: Path, threads: int, gpu: str | None) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        self.lines: list[str] = []  # written by the process, not shown yet
        self.error: str | None = None
        self.trace: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            process_group=0,  # Ctrl-C reaches this process alone, which then asks the workers to stop
        )
        assert self._process.stdin is not None
        task = {"root": str(root), "threads": threads, "specs": [spec_to_json(spec) for spec in specs]}
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()  # it stays open: its end tells the process that this one has died
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def code(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        code = self._process.poll()
        if code is not None:
            self._reader.join()
        return code

    def stop(self) -> None:
        """Ask the process to stop after its current step, with a checkpoint."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Wait until the process has ended."""
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def failure(self) -> Exception:
        """Return the error with which the process has ended."""
        if self.error is not None:
            return UserError(self.error)
        code = self._process.returncode
        if code < 0:
            return UserError(
                f"a process that trained runs was killed by signal {-code}: run the same command again, with "
                "fewer --jobs if memory is short"
            )
        return RuntimeError("\n".join(["a process that trained runs failed:", *self.trace]))

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            line = line.rstrip("\n")
            if line.startswith(PREFIX):
                self.error = line.removeprefix(PREFIX)
            elif line:
                self.lines.append(line)
                self.trace = [*self.trace[-50:], line]


def spec_to_json(spec: RunSpec) -> dict[str, Any]:
    """Return a declaration as JSON; runs among its overrides become objects."""
    overrides = {
        key: spec_to_json(value) if isinstance(value, RunSpec) else value
        for key, value in flatten(spec.overrides).items()
    }
    return {"recipe": spec.recipe, "overrides": overrides, "seed": spec.seed, "name": spec.name}


def spec_from_json(values: Mapping[str, Any]) -> RunSpec:
    """Return the declaration that `spec_to_json` has converted."""
    overrides = {
        key: spec_from_json(value) if isinstance(value, dict) else value
        for key, value in values["overrides"].items()
    }
    return RunSpec(values["recipe"], overrides, values["seed"], values["name"])


def main() -> int:
    """Train the runs that the first line of the standard input declares, and return the exit code."""
    keep_freed_memory()
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
    torch.set_num_threads(task["threads"])
    try:
        store = RunStore(Path(task["root"]))
        finished = train_all(store.runs([spec_from_json(spec) for spec in task["specs"]]))
    except (UserError, OSError) as fault:
        print(f"{PREFIX}{line_of(fault)}", file=sys.stderr)
        return 2
    return 0 if finished else ENDED_BY_SIGNAL


def _stop_at_end_of_input() -> None:
    """Stop this process, with a checkpoint, once the process that started it has ended."""
    while os.read(0, 1):  # without the lock of sys.stdin, which this process could not take at its end
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
