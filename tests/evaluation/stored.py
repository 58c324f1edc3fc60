"""Reports in JSON files, by name."""

import json
from pathlib import Path
from typing import Any


def stored(path: Path | str) -> list[dict[str, Any]]:
    """The reports in a file of `acdit evaluate`."""
    return json.loads(Path(path).read_text())["reports"]


def score(report: dict[str, Any], metric: str, features: str | None = None) -> dict[str, Any]:
    """The score of a metric, on the given features or the first ones."""
    return next(
        one for one in report["scores"] if one["metric"] == metric and features in (None, one["features"])
    )


def series(report: dict[str, Any], metric: str) -> dict[str, Any]:
    """The series of a metric."""
    return next(one for one in report["series"] if one["metric"] == metric)
