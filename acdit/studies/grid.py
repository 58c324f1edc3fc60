"""Train the runs of a study that are not finished yet, in this process or in several at once."""

import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext

import torch

from ..training.signals import StopRequest
from .grid_worker import ENDED_BY_SIGNAL, Worker
from .run_store import RunSpec, RunStore, StoredRun
from .train_runs import WAIT, GridProgress, train_all

STOPPED = "the study was stopped; run the same command again to continue (without --refresh)"


def train_grid(
    specs: Iterable[RunSpec],
    *,
    store: RunStore | None = None,
    jobs: int = 1,
    progress: GridProgress | None = None,
    wait: bool = True,
) -> list[StoredRun] | None:
    """Train the runs of a study that are not finished yet, and the runs that they start from.

    A run that another process trains is left to it and waited for at the end. SIGTERM or SIGINT ends the
    running steps with checkpoints. The weights do not depend on `jobs`, as long as the number of threads of a
    process does not: with several jobs each process has its fraction of them.

    Args:
        specs: Declarations of the runs; equal ones are trained once.
        store: Store of the runs; default: that of the environment variable `ACDIT_RUNS`.
        jobs: Number of runs to train at once, each in its own process, on its own GPU if there are several.
        progress: Progress of a larger grid, of which these runs are a part; default: that of these runs.
        wait: Whether to wait for the runs that other processes train; several jobs wait for them always.

    Returns:
        Runs in the order of `specs`, each finished unless it, or a run that it needs, has diverged; None if
        the training was stopped by a signal.

    Raises:
        InUseError: If `wait` is false, and only runs that other processes train are left.
        UserError: If a run cannot be trained.
        OSError: If the disk is full.
    """
    specs, store = list(specs), store or RunStore()
    runs = store.runs(specs)
    unfinished = sum(not run.ended for run in runs)
    if unfinished:
        with GridProgress(runs) if progress is None else nullcontext(progress) as progress:
            if jobs == 1:
                finished = train_all(runs, progress, wait=wait)
            else:  # also for a single run, so that it has the threads of a job
                threads = max(1, torch.get_num_threads() // jobs)
                workers = min(jobs, unfinished)
                finished = _train_in_processes(specs, store, workers, threads, progress)
            if not finished:
                progress.say(STOPPED)
                return None
    return [store.run(spec) for spec in specs]


def _train_in_processes(
    specs: Sequence[RunSpec], store: RunStore, count: int, threads: int, progress: GridProgress
) -> bool:
    """Train runs in `count` processes, and show what they write; return whether all runs are finished."""
    gpus = _visible_gpus()
    # the negative codes are those of a process that has not begun to train when the study is stopped
    ended = (0, ENDED_BY_SIGNAL, -signal.SIGTERM, -signal.SIGINT)
    workers: list[Worker] = []
    failed: Worker | None = None
    with StopRequest() as stop:
        try:
            for index in range(count):
                workers.append(Worker(specs, store.root, threads, gpus[index % len(gpus)]))
            while any(worker.code is None for worker in workers):
                for worker in workers:
                    while worker.lines:
                        progress.say(worker.lines.pop(0))
                failed = next((each for each in workers if each.code not in (None, 0, ENDED_BY_SIGNAL)), None)
                if stop:
                    failed = next((each for each in workers if each.code not in (None, *ended)), None)
                    break
                if failed is not None:
                    break
                progress.read()
                time.sleep(WAIT)
        finally:
            for worker in workers:
                worker.stop()
            for worker in workers:
                worker.close()
    failed = failed or next((worker for worker in workers if worker.code not in ended), None)
    if failed is not None:
        raise failed.failure()
    progress.read()
    for worker in workers:
        for line in worker.lines:
            progress.say(line)
    return not stop and all(worker.code == 0 for worker in workers)  # a signal may come after the last step


def _visible_gpus() -> list[str | None]:
    """Return the values of `CUDA_VISIBLE_DEVICES` that show one GPU each; [None] if there is no GPU."""
    count = torch.cuda.device_count()
    numbers = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    shown: list[str | None] = [*(numbers or map(str, range(count)))]
    return shown[:count] or [None]
