"""Measurements of a study so far, in a file from which the same study resumes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.errors import UserError
from ..utils.files import whole
from ..utils.kinds import OBJECT, Kind, check_values, list_of
from ..utils.untrusted import read_object

FILE = "measurements.json"
ANY = Kind("any value", lambda value: True)
PLAIN = Kind("a single value", lambda value: not isinstance(value, list | dict))
KINDS = {"setting": OBJECT, "rows": list_of(OBJECT, range(10**6))}


@dataclass(frozen=True)
class StudyResult:
    """Result of a study.

    Attributes:
        report: table and conclusions.
        files: files that were written.
    """

    report: str
    files: tuple[Path, ...]


class Measurements:
    """Rows of measurements, keyed by some of their columns; the file is written whenever a row is added.

    Args:
        path: path of the JSON file.
        setting: settings that all rows have in common.
        keys: columns that identify a row.
        columns: other columns that each row must hold.

    Raises:
        UserError: if the file belongs to a study with other settings, or is damaged.
    """

    def __init__(self, path: Path, setting: dict[str, Any], keys: Sequence[str], columns: Sequence[str]):
        self.path, self.setting, self._keys = path, setting, tuple(keys)
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        if not path.exists():
            return
        remedy = "choose another --out, or remove the file"
        try:
            stored = check_values(read_object(path, infinite=True), KINDS, path)
            if stored["setting"] == setting:
                for row in stored["rows"]:
                    check_values(row, dict.fromkeys(columns, ANY) | dict.fromkeys(keys, PLAIN), path)
                    self.rows[self._key(row)] = row
        except UserError as fault:
            raise UserError(f"{path} is damaged or does not belong to a study: {fault}; {remedy}") from fault
        if stored["setting"] != setting:
            raise UserError(f"{path} holds measurements of a study with other settings: {remedy}")

    def add(self, row: dict[str, Any]) -> None:
        """Add a row and write the file."""
        self.rows[self._key(row)] = row
        with whole(self.path) as temporary_path:
            rows = list(self.rows.values())
            temporary_path.write_text(json.dumps({"setting": self.setting, "rows": rows}, indent=1) + "\n")

    def _key(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in self._keys)


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
