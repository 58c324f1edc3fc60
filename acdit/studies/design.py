"""Design of a study, and the function that trains, measures and reports what a design declares."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..utils.files import InUseError, only_process
from ..utils.progress_bar import ProgressBar
from .grid import STOPPED, train_grid
from .measurements import DIVERGED, FILE, Measurements, StudyResult
from .run_store import RunSpec, RunStore
from .train_runs import GridProgress

SEED = "seed"  # column of the seed in the rows of a study that has several
Key = tuple[Any, ...]
Row = Mapping[str, Any]
Rows = Mapping[Key, Row]


@dataclass(frozen=True)
class Measurement:
    """Measurement of a study: rows that are measured together.

    Attributes:
        rows: Keys of the rows, each with the values of `Design.keys`.
        measure: Function that is called with the `StoredRun` of each of `runs`, all of them finished, and
            returns the rows.
        runs: Training runs that the measurement needs.
    """

    rows: tuple[Key, ...]
    measure: Callable[..., Iterable[Row]]
    runs: tuple[RunSpec, ...] = ()


@dataclass(frozen=True)
class Design:
    """Design of a study.

    Attributes:
        name: Name of the study.
        setting: Settings that all rows have in common, as JSON.
        keys: Columns that identify a row.
        columns: Other columns that each row must hold.
        measurements: Measurements of the study.
        report: Function that is called with all rows, by key, and the output folder. It writes tables and
            plots, and returns a table with conclusions, and the paths of the files.
        version: Version of the measurements, raised whenever the same settings give other rows.
    """

    name: str
    setting: Mapping[str, Any]
    keys: Sequence[str]
    columns: Sequence[str]
    measurements: Sequence[Measurement]
    report: Callable[[Rows, Path], tuple[str, Sequence[Path]]]
    version: int = 1

    @property
    def runs(self) -> list[RunSpec]:
        """Return the training runs of all measurements."""
        return [spec for measurement in self.measurements for spec in measurement.runs]

    def measured(self, folder: Path, store: RunStore, *, refresh: bool = False) -> Measurements:
        """Return the rows that have been measured so far, in a folder.

        Args:
            folder: Output folder.
            store: Store of the training runs.
            refresh: Whether to measure again what the folder holds, also that of other settings or runs.

        Raises:
            UserError: If the folder belongs to another study, or without `refresh` to other settings or other
                training runs, or is damaged.
        """
        setting = dict(self.setting)
        if self.version > 1:  # the first one is not written, as in files of earlier versions of the package
            setting["version"] = self.version
        digests = {
            key: store.digest_of(measurement.runs)
            for measurement in self.measurements
            if measurement.runs
            for key in measurement.rows
        }
        return Measurements(
            folder / FILE,
            setting,
            self.keys,
            self.columns,
            study=self.name,
            refresh=refresh,
            requested=[key for measurement in self.measurements for key in measurement.rows],
            runs=digests,
            are_runs=partial(self._are_runs, store),
        )

    def _are_runs(self, store: RunStore, digest: str) -> bool:
        """Return whether a digest is that of all training runs, or of those of successive seeds."""
        if digest == store.digest_of(self.runs):
            return True
        if SEED not in self.keys:
            return False
        by_seed: dict[int, list[RunSpec]] = {}
        for measurement in self.measurements:
            by_seed.setdefault(measurement.rows[0][self.keys.index(SEED)], []).extend(measurement.runs)
        seeds = sorted(by_seed)
        return any(
            digest == store.digest_of(spec for seed in seeds[first : last + 1] for spec in by_seed[seed])
            for first in range(len(seeds))
            for last in range(first, len(seeds))
        )

    def missing(self, measured: Measurements) -> list[Measurement]:
        """Return the measurements that lack a row, or the scores of a run that diverged."""
        whole = {key for key, row in measured.rows.items() if DIVERGED not in row}
        return [each for each in self.measurements if not whole.issuperset(each.rows)]

    def without_scores(self, measurement: Measurement, reason: str) -> list[Row]:
        """Return the rows of a measurement of which a training run diverged: no score is finite."""
        scores = dict.fromkeys(self.columns, math.nan) | {DIVERGED: reason}
        return [dict(zip(self.keys, key, strict=True)) | scores for key in measurement.rows]


def run_study(
    design: Design, folder: Path, *, store: RunStore | None = None, jobs: int = 1, refresh: bool = False
) -> StudyResult | None:
    """Train the missing runs of a study, measure the missing rows, and write the report.

    The same study resumes from its training runs and measurements, also with more seeds or fewer. Runs whose
    rows are all measured are not needed any more. A measurement is made as soon as its runs are trained; with
    several jobs, after all runs, since measured seconds need a machine that does nothing else. Measurements
    whose runs another process trains come last. A run that diverges leaves rows whose scores are not finite;
    the runs that start from it are not trained.

    Args:
        design: Design of the study.
        folder: Output folder.
        store: Store of the training runs; default: that of the environment variable `ACDIT_RUNS`.
        jobs: Number of runs to train at once.
        refresh: Whether to measure again what the folder holds; finished training runs stay, and those that
            diverged are trained again.

    Returns:
        Table with conclusions, and the files; None if a training run was stopped.

    Raises:
        UserError: If the folder belongs to another study, or a run cannot be trained.
    """
    store = store or RunStore()
    with only_process(folder, "a study"):
        measured = design.measured(folder, store, refresh=refresh)
        missing = design.missing(measured)
        needed = [spec for measurement in missing for spec in measurement.runs]
        if refresh:
            measured.begin_refresh()
            for run in store.runs(needed):
                run.forget_divergence()
        if jobs > 1 and train_grid(needed, store=store, jobs=jobs) is None:
            return None
        if not _measure(design, missing, measured, store):
            return None
        measured.complete()
        rows = {key: measured.rows[key] for each in design.measurements for key in each.rows}
        report, files = design.report(rows, folder)
    notes = (measured.note, measured.diverged, _left_out(len(measured.rows) - len(rows), folder))
    return StudyResult("\n".join(filter(None, (*notes, report))), (folder / FILE, *files))


def _left_out(count: int, folder: Path) -> str:
    """Return a sentence about rows that the study does not ask for, or an empty text."""
    return (
        f"{folder / FILE} holds {count:,} more rows, of other seeds, which are not reported" if count else ""
    )


def _measure(design: Design, missing: Sequence[Measurement], measured: Measurements, store: RunStore) -> bool:
    """Train the runs of measurements and measure them, those first whose runs no other process trains.

    Returns:
        Whether all are measured; False if a training run was stopped.
    """
    runs = store.runs(spec for measurement in missing for spec in measurement.runs)
    unfinished = not all(run.ended for run in runs)
    pending = list(missing)
    with (
        GridProgress(runs) if unfinished else nullcontext() as progress,
        ProgressBar(
            total=len(missing), desc=design.name, unit="measurement", leave=False, disable=unfinished
        ) as bar,
    ):
        while pending:
            busy: dict[str, list[Measurement]] = {}  # by the reason to wait
            for measurement in pending:
                try:
                    trained = train_grid(measurement.runs, store=store, progress=progress, wait=False)
                except InUseError as fault:
                    busy.setdefault(str(fault), []).append(measurement)
                    continue
                if trained is None:
                    return False
                reason = next((reason for run in trained if (reason := run.diverged)), None)
                if reason is None:
                    rows = measurement.measure(*trained)
                else:
                    rows = design.without_scores(measurement, reason)
                for row in rows:
                    measured.add(row)
                bar.update()
            left = [measurement for group in busy.values() for measurement in group]
            if progress is not None and len(left) == len(pending) and not progress.wait("; ".join(busy)):
                progress.say(STOPPED)
                return False
            pending = left
    return True
