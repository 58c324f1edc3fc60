"""Log of a run, `log.jsonl` in its directory, with one JSON object per line."""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..utils.errors import UserError
from ..utils.files import whole
from ..utils.untrusted import parse_json, read_bytes, shown

LOG_FILE = "log.jsonl"
LARGEST_LOG = 2**32  # bytes
MOST_STEPS = 2**53  # that a plot can show


@dataclass
class RunLog:
    """Log entries of a run, in the order of its steps; a missing value is left out or None.

    Attributes:
        steps: Entries of steps, each with `step`, and `loss`, `learning_rate`, `images_per_second` and so on.
        validations: Entries of validations, each with `step` and `loss`, and losses `by_block` (in the order
            of the blocks) and `by_timestep` (in equal parts of 0..1000), or for classifiers `accuracy`,
            `loss_by_head` and `accuracy_by_head`.
    """

    steps: list[dict[str, Any]] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)


def read_log(path: Path) -> RunLog:
    """Read the log in a run's directory, or the log file itself.

    If a resumed run repeated steps, only the latest entries of these steps are used. A last line that was cut
    off when the run was killed is left out.

    Raises:
        UserError: If there is no log, or a line of it cannot be read.
    """
    file = path / LOG_FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{file} does not exist: give the directory of a training run, or its {LOG_FILE}")
    *lines, last = read_bytes(file, LARGEST_LOG).split(b"\n")
    entries: list[dict[str, Any]] = []
    for number, line in enumerate([*lines, last], 1):
        if not line:
            continue
        try:
            entry: Any = parse_json(line, "the line", infinite=True)
            _check(entry)
        except ValueError as error:
            if number > len(lines) and line.startswith(b"{"):
                break  # the line has no line feed: it was cut off
            raise UserError(f"{file}, line {number}, cannot be read: {error}") from error
        while entries and _sort_key(entries[-1]) >= _sort_key(entry):
            entries.pop()  # the run was resumed from a step before this entry
        entries.append(entry)
    return RunLog(
        steps=[entry for entry in entries if "validation" not in entry],
        validations=[
            {"step": entry["step"], **entry["validation"]} for entry in entries if "validation" in entry
        ],
    )


def _sort_key(entry: dict[str, Any]) -> tuple[int, bool]:
    """Return the sort key of an entry: its step, and a validation after the step that it follows."""
    return entry["step"], "validation" in entry


def _check(entry: Any) -> None:
    """Raise ValueError if `entry` is not a valid log entry."""
    step = entry.get("step") if isinstance(entry, dict) else None
    if type(step) is not int or not 0 <= step < MOST_STEPS:
        raise ValueError('it must be an object with a whole number "step"')
    values = entry
    if "validation" in entry:
        values = entry["validation"]
        if not isinstance(values, dict):
            raise ValueError(f'"validation" must be an object, not {shown(values)}')
    for name, value in values.items():
        for number in value if isinstance(value, list) else [value]:
            if not isinstance(number, int | float | None) or (
                type(number) is int and abs(number) > MOST_STEPS
            ):
                raise ValueError(f'"{name}" must be a number, not {shown(number)}')


def set_aside_log(path: Path) -> Path | None:
    """Rename a log that a run begins to write anew, and return its new path; None if it holds nothing."""
    if not path.stat().st_size:
        return None
    numbers = itertools.count(1)
    kept = next(each for number in numbers if not (each := path.with_name(f"log.{number}.jsonl")).exists())
    path.rename(kept)
    return kept


def cut_log(path: Path, step: int) -> None:
    """Remove entries after a step, and lines that were cut off, before a run resumes from that step."""
    kept = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    with whole(path) as temporary_path:
        temporary_path.write_text("".join(f"{line}\n" for line in kept))
