"""Train runs of the store in this process, each unless another process trains it."""

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from ..training.log import LOG_FILE
from ..training.signals import StopRequest
from ..utils.errors import UserError, in_words
from ..utils.files import InUseError
from ..utils.progress_bar import ProgressBar
from ..utils.untrusted import parse_json
from .run_store import StoredRun

WAIT = 0.5  # seconds between two looks at runs that other processes train
TAIL = 4096  # bytes at the end of a log that hold its last entry


def train_all(
    runs: Sequence[StoredRun], progress: "GridProgress | None" = None, *, wait: bool = True
) -> bool:
    """Train runs in this process, each unless another process trains it, until all have ended.

    A run that diverges has ended too; those that start from it are left out.

    Args:
        runs: Runs, each after those that it needs.
        progress: Progress of all runs, for this process to report.
        wait: Whether to wait for the runs that other processes train once none is left for this one.

    Returns:
        Whether all runs have ended; False if a signal came, even one in the last step of the last run.

    Raises:
        InUseError: If `wait` is false, and the runs that are left are trained by other processes.
    """
    pending, said = list(runs), ""
    with StopRequest() as stop:
        while pending and not stop:
            trained = False
            busy: list[StoredRun] = []
            for run in list(pending):
                if stop or not (run.ended or all(needed.finished for needed in run.needs)):
                    continue
                try:
                    if not _train_one(run, progress):
                        return False
                except InUseError:
                    busy.append(run)
                    continue
                pending.remove(run)
                trained = True
            if not trained and pending and not stop:
                reason = trained_elsewhere(busy or pending)
                if not wait:
                    raise InUseError(reason)
                if progress is None:
                    if reason != said:
                        print(f"waiting: {reason}", file=sys.stderr, flush=True)
                    said = reason
                    time.sleep(WAIT)
                else:
                    progress.wait(reason)
            if progress is not None:
                progress.read()
        return not pending and not stop


def trained_elsewhere(runs: Sequence[StoredRun]) -> str:
    """Return a sentence that names runs which other processes train."""
    return f"another process trains {in_words((f'{run.name} in {run.folder}' for run in runs), 'and')}"


def _train_one(run: StoredRun, progress: "GridProgress | None") -> bool:
    """Train a run to its end, and say if it has diverged; errors name the run."""
    follow: Callable[[int], None] = (lambda step: None) if progress is None else progress.follower(run)
    try:
        if run.ended:
            return True
        ended = run.train(follow)
        if (reason := run.diverged) is not None:
            line = f"{reason}: the study goes on without it"
            if progress is None:
                print(line, file=sys.stderr, flush=True)
            else:
                progress.say(line)
        return ended
    except InUseError:
        raise
    except UserError as fault:
        raise UserError(f"run {run.name} in {run.folder}: {fault}") from fault


class GridProgress:
    """Progress bar of the steps of all runs of a grid."""

    def __init__(self, runs: Sequence[StoredRun]):
        self._runs = runs
        self._steps = {run.digest: current_step(run) for run in runs}
        self._waits = ""
        self._bar = ProgressBar(
            total=sum(run.steps for run in runs),
            initial=sum(self._steps.values()),
            desc=f"{len(runs)} training runs",
            unit="step",
        )

    def __enter__(self) -> "GridProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line, file=self._bar.fp)

    def wait(self, reason: str) -> bool:
        """Wait for a moment, and show the steps; return whether no signal came.

        Args:
            reason: What this process waits for; it is printed once as long as it stays the same.
        """
        if reason != self._waits:
            self.say(f"waiting: {reason}")
        self._waits = reason
        with StopRequest() as stop:
            time.sleep(WAIT)
        self.read()
        return not stop

    def read(self) -> None:
        """Show the steps of all runs as they stand on disk."""
        self._steps = {run.digest: current_step(run) for run in self._runs}
        self._show()

    def follower(self, run: StoredRun) -> Callable[[int], None]:
        """Return a function that shows the number of completed steps of a run of this process."""

        def follow(step: int) -> None:
            self._waits = ""
            self._steps[run.digest] = step
            self._show()

        return follow

    def _show(self) -> None:
        self._bar.update(sum(self._steps.values()) - self._bar.n)


def current_step(run: StoredRun) -> int:
    """Return the number of completed steps of a run on disk: those of its last log entry or checkpoint.

    A run that has diverged has no steps left.
    """
    if run.ended:
        return run.steps
    logged = 0
    path = run.folder / LOG_FILE
    if path.is_file():
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            lines = file.read().splitlines()
        for line in lines:
            try:
                entry = parse_json(line, path, infinite=True)
            except ValueError:  # cut off at the start of the tail, or being written
                continue
            if isinstance(entry, dict) and type(entry.get("step")) is int:
                logged = entry["step"]
    return min(run.steps, max(logged, run.saved_step))
