"""Design of a study, and the function that trains, measures and reports what a design declares."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.files import only_process
from ..utils.progress_bar import ProgressBar
from .grid import train_grid
from .measurements import FILE, Measurements, StudyResult
from .run_store import RunSpec, RunStore

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
    """

    name: str
    setting: Mapping[str, Any]
    keys: Sequence[str]
    columns: Sequence[str]
    measurements: Sequence[Measurement]
    report: Callable[[Rows, Path], tuple[str, Sequence[Path]]]

    @property
    def runs(self) -> list[RunSpec]:
        """Return the training runs of all measurements."""
        return [spec for measurement in self.measurements for spec in measurement.runs]

    def measured(self, folder: Path, store: RunStore) -> Measurements:
        """Return the rows that have been measured so far, in a folder.

        Raises:
            UserError: If the folder belongs to another study or to other training runs, or is damaged.
        """
        setting = dict(self.setting)
        if self.runs:
            setting["runs"] = store.digest_of(self.runs)
        return Measurements(folder / FILE, setting, self.keys, self.columns)

    def missing(self, measured: Measurements) -> list[Measurement]:
        """Return the measurements that lack a row."""
        return [each for each in self.measurements if any(key not in measured.rows for key in each.rows)]


def run_study(
    design: Design, folder: Path, *, store: RunStore | None = None, jobs: int = 1
) -> StudyResult | None:
    """Train the missing runs of a study, measure the missing rows, and write the report.

    The same study resumes from its training runs and measurements. Runs whose rows are all measured are not
    needed any more.

    Args:
        design: Design of the study.
        folder: Output folder.
        store: Store of the training runs; default: that of the environment variable `ACDIT_RUNS`.
        jobs: Number of runs to train at once.

    Returns:
        Table with conclusions, and the files; None if a training run was stopped.

    Raises:
        UserError: If the folder belongs to another study, or a run cannot be trained.
    """
    store = store or RunStore()
    with only_process(folder, "a study"):
        measured = design.measured(folder, store)
        missing = design.missing(measured)
        needed = [spec for measurement in missing for spec in measurement.runs]
        if train_grid(needed, store=store, jobs=jobs) is None:
            return None
        for measurement in ProgressBar(missing, desc=design.name, unit="measurement", leave=False):
            for row in measurement.measure(*map(store.run, measurement.runs)):
                measured.add(row)
        report, files = design.report(measured.rows, folder)
    return StudyResult(report, (folder / FILE, *files))
