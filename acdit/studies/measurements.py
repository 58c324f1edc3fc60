"""Measurements of a study so far, in a file from which the same study resumes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.errors import UserError
from ..utils.files import whole


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
            stored = json.loads(path.read_text())
            if stored["setting"] != setting:
                raise UserError(f"{path} holds measurements of a study with other settings: {remedy}")
            for row in stored["rows"]:
                missing = {*keys, *columns} - set(row)
                if missing:
                    raise KeyError(", ".join(sorted(missing)))
                self.rows[self._key(row)] = row
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError, KeyError) as fault:
            raise UserError(f"{path} is damaged or does not belong to a study: {remedy}") from fault

    def add(self, row: dict[str, Any]) -> None:
        """Add a row and write the file."""
        self.rows[self._key(row)] = row
        with whole(self.path) as temporary_path:
            rows = list(self.rows.values())
            temporary_path.write_text(json.dumps({"setting": self.setting, "rows": rows}, indent=1) + "\n")

    def _key(self, row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in self._keys)
