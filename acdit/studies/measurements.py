"""Measurements of a study so far, in a file from which the same study resumes."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .. import __version__
from ..utils.errors import UserError, in_words
from ..utils.files import whole
from ..utils.kinds import OBJECT, TEXT, Kind, check_values, list_of
from ..utils.untrusted import read_object

FILE = "measurements.json"
EARLIER = "measurements.earlier.json"  # what a refresh found, until it is complete
UNKNOWN = "of unknown version"  # in place of the version of rows in files of earlier versions
DEVELOPMENT = ".dev"  # after the release that a development version leads to
RUNS = "runs"  # digest of the training runs of a row; in files of earlier versions, a setting: that of all
DIVERGED = "diverged"  # column of the training run that diverged and at which step; such a row has no scores
# Column of the distance of as many real samples, which depends on the evaluator alone.
REAL = "frechet_distance_real"
SAME = 1e-3  # relative difference of distances of the same evaluator on machines that round otherwise
NOT_FINITE = "not_finite"  # columns whose values are not finite: null in the file, since JSON has no NaN
# Settings of files of earlier versions that say which rows a study has, not what they are.
EXTENT = ("first_seed", "seeds", "damaged", RUNS)
ANY = Kind("any value", lambda value: True)
PLAIN = Kind("a single value", lambda value: not isinstance(value, list | dict))
KINDS = {
    "study": TEXT.if_given(),  # earlier versions did not write it, nor the next
    "versions": list_of(TEXT, range(1000)).if_given(),
    "setting": OBJECT,
    "rows": list_of(OBJECT, range(10**6)),
}
ROW_KINDS = {
    RUNS: TEXT.if_given(),
    DIVERGED: TEXT.if_given(),
    NOT_FINITE: list_of(TEXT, range(1000)).if_given(),
}


@dataclass(frozen=True)
class StudyResult:
    """Result of a study.

    Attributes:
        report: table and conclusions.
        files: files that were written.
    """

    report: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class StoredMeasurements:
    """Content of a file of measurements.

    Attributes:
        study: name of the study, or an empty text if the file does not say it.
        versions: versions of the package that measured the rows; "of unknown version" for files of versions
            that did not write it.
        setting: settings that all rows have in common.
        rows: rows in the order in which they were measured.
        runs: digest of the training runs of each row, or an empty text.
    """

    study: str
    versions: tuple[str, ...]
    setting: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]
    runs: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "StoredMeasurements":
        """Read a file.

        Raises:
            UserError: if the file is damaged.
        """
        content = check_values(read_object(path, infinite=True), KINDS, path)
        versions = tuple(content.get("versions", [UNKNOWN] if content["rows"] else ()))
        for row in content["rows"]:
            check_values(row, ROW_KINDS, path)
            row.update(dict.fromkeys(row.pop(NOT_FINITE, ()), math.nan))
        runs = tuple(row.pop(RUNS, "") for row in content["rows"])
        return cls(content.get("study", ""), versions, content["setting"], tuple(content["rows"]), runs)


class Measurements:
    """Rows of measurements, keyed by some of their columns; the file is written whenever a row is added.

    Rows that the study does not ask for, such as those of other seeds, stay in the file; with `refresh` those
    of the same settings and the same evaluator.

    Args:
        path: path of the JSON file.
        setting: settings that all rows have in common.
        keys: columns that identify a row.
        columns: other columns that each row must hold.
        study: name of the study.
        refresh: whether rows of the file are measured again, in whatever settings they were measured.
        requested: keys of the rows that the study asks for.
        runs: digests of the training runs of these rows, by key.
        are_runs: function that returns whether a digest is that of all training runs of the study, with as
            many seeds or fewer; for files of earlier versions, which have no digests of rows.

    Raises:
        UserError: if the file belongs to another study, or unless `refresh` to one with other settings or
            training runs, or is damaged.
    """

    def __init__(
        self,
        path: Path,
        setting: dict[str, Any],
        keys: Sequence[str],
        columns: Sequence[str],
        *,
        study: str = "",
        refresh: bool = False,
        requested: Iterable[tuple[Any, ...]] = (),
        runs: Mapping[tuple[Any, ...], str] = MappingProxyType({}),
        are_runs: Callable[[str], bool] = lambda digest: False,
    ):
        self.path, self.setting, self._keys, self._study = path, setting, tuple(keys), study
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._runs, self._refresh = dict(runs), refresh
        self._versions: tuple[str, ...] = ()
        if not path.exists():
            return
        remedy = "choose another --out, or remove the file"
        path.open("rb").close()  # a file that may not be read is not damaged
        try:
            stored = StoredMeasurements.read(path)
            foreign = stored.study not in ("", study)
            common = {
                key: value for key, value in stored.setting.items() if key in setting or key not in EXTENT
            }
            if not foreign and common == setting:
                again = set(requested) if refresh else set()
                for row in stored.rows:
                    check_values(dict(row), dict.fromkeys(columns, ANY) | dict.fromkeys(keys, PLAIN), path)
                    if (key := self._key(row)) not in again:
                        self.rows[key] = dict(row)
                self._versions = stored.versions if self.rows else ()
        except UserError as fault:
            raise UserError(f"{path} is damaged or does not belong to a study: {fault}; {remedy}") from fault
        if foreign:
            raise UserError(f"{path} does not belong to the study {study}, but to {stored.study}; {remedy}")
        if refresh:
            for row, digest in zip(stored.rows, stored.runs, strict=True):
                if (key := tuple(row.get(name) for name in keys)) in self.rows:
                    self._runs.setdefault(key, digest)
            return
        if common != setting:
            raise self._other(_changed(common, setting))
        if RUNS not in stored.setting:
            for row, digest in zip(stored.rows, stored.runs, strict=True):
                key = self._key(row)
                if digest != self._runs.setdefault(key, digest):
                    raise self._other(f"training runs {digest}, not {self._runs[key]}, of a row")
        elif not are_runs(stored.setting[RUNS]):
            raise self._other(
                f"training runs {stored.setting[RUNS]}, or more seeds; an earlier version wrote the file, so "
                "that its rows can only be used together"
            )

    @property
    def diverged(self) -> str:
        """Return a sentence about training runs that diverged, or an empty text."""
        reasons = sorted({row[DIVERGED] for row in self.rows.values() if DIVERGED in row})
        if not reasons:
            return ""
        return f"{in_words(reasons, 'and')}: there are no scores; --refresh trains and measures again"

    @property
    def note(self) -> str:
        """Return a sentence about rows that other versions of the package measured, or an empty text."""
        others = [version for version in self._versions if version != release()]
        if not others or not self.rows:
            return ""
        return (
            f"{self.path} holds rows measured by acdit {in_words(others, 'and')}, and this is {release()}: "
            "--refresh measures them again"
        )

    def _other(self, changed: str) -> UserError:
        return UserError(
            f"{self.path} holds measurements of a study with other settings ({changed}): choose another "
            "--out, or measure again with --refresh"
        )

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row and write the file.

        Raises:
            UserError: if another evaluator has scored the other rows, unless they are measured again.
        """
        others = [key for key, other in self.rows.items() if not same_evaluator((row, other))]
        if others and not self._refresh:
            raise UserError(
                f"another fit of the evaluator has scored the rows in {self.path}, so that they cannot be "
                "compared with new ones: measure them again with --refresh"
            )
        for key in others:
            del self.rows[key]
        self.rows[self._key(row)] = dict(row)
        self._versions = tuple(dict.fromkeys([*self._versions, release()]))
        self.write()

    def begin_refresh(self) -> None:
        """Write the file without the rows to measure again, so that a stop does not bring them back.

        The file as it was is kept beside it until the study is complete, in case no row can be measured.
        """
        earlier = self.path.with_name(EARLIER)
        if self.path.exists() and not earlier.exists():
            with whole(earlier) as temporary_path:
                temporary_path.write_bytes(self.path.read_bytes())
        if self.path.exists():
            self.write()

    def complete(self) -> None:
        """Remove the file that `begin_refresh` has kept."""
        self.path.with_name(EARLIER).unlink(missing_ok=True)

    def write(self) -> None:
        """Write the file, with the rows so far."""
        content = {
            "study": self._study,
            "versions": self._versions,
            "setting": self.setting,
            "rows": [
                _written(row) | ({RUNS: self._runs[key]} if self._runs.get(key) else {})
                for key, row in self.rows.items()
            ],
        }
        with whole(self.path) as temporary_path:
            temporary_path.write_text(json.dumps(content, indent=1) + "\n")

    def _key(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in self._keys)


def same_evaluator(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the same evaluator has scored all rows that have a Fréchet distance of real samples."""
    real = [value for row in rows if type(value := row.get(REAL)) is float and math.isfinite(value)]
    return all(math.isclose(value, real[0], rel_tol=SAME) for value in real)


def _written(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as it is written: values that are not finite are null, and their columns are listed."""
    names = [key for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
    return dict(row) | dict.fromkeys(names) | ({NOT_FINITE: names} if names else {})


def release() -> str:
    """Return the release that this version of the package is, or leads to.

    Commits between two releases have versions of their own, which say nothing about what they measure.
    """
    return __version__.partition(DEVELOPMENT)[0]


def _changed(stored: Mapping[str, Any], setting: Mapping[str, Any]) -> str:
    """Describe the settings that differ."""
    names = [name for name in {**stored, **setting} if stored.get(name) != setting.get(name)]
    return in_words((f"{name} {stored.get(name)}, not {setting.get(name)}" for name in names), "and")


def markdown_table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the lines of a table in markdown; the columns are the keys of the first row."""
    cells = [
        [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows
    ]
    return [
        f"| {' | '.join(rows[0])} |",
        f"|{'---|' * len(rows[0])}",
        *(f"| {' | '.join(row)} |" for row in cells),
    ]
