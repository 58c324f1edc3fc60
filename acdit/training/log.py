"""The log of a run, `log.jsonl` in its directory: one JSON object a line."""

import json
from pathlib import Path

from ..files import whole

LOG_FILE = "log.jsonl"


def cut_log(path: Path, step: int) -> None:
    """Drop what a run noted after a step, and a line that was cut off, for a run that goes on from there."""
    kept = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, TypeError, KeyError):
            continue
    with whole(path) as aside:
        aside.write_text("".join(f"{line}\n" for line in kept))
