"""JSON files of reports, written by `acdit evaluate`."""

import json
from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from ..pipelines.folders import pipeline_folder
from ..utils.errors import UserError
from ..utils.files import check_writable, whole

if TYPE_CHECKING:
    from ..evaluation.report import Report


def check_score_file(out: str | None) -> None:
    """Raise UserError if the score file cannot be written; call it before the work that would be lost."""
    if out is not None:
        check_writable(Path(out))


def write_reports(model: str | None, reports: "Sequence[Report]", out: str | None) -> None:
    """Write reports to a JSON file, or print them if no file is named.

    Args:
        model: model that the reports are about; None for samples without a model.
        reports: one report for each setting.
        out: path of the file.

    Raises:
        UserError: if a score is not finite.
    """
    wrong = [name for report in reports for name, value in _values(report) if not isfinite(value)]
    if wrong:
        raise UserError(
            f"the scores {', '.join(wrong[:8])} are not finite, so no scores are written: "
            "use --dtype float32, or a model that is trained"
        )
    folder = None if model is None else str(pipeline_folder(model))
    content = {"model": folder, "reports": [report.to_json() for report in reports]}
    text = json.dumps(content, indent=2, allow_nan=False)
    if out is None:
        print(text)
        return
    with whole(Path(out)) as temporary_path:
        temporary_path.write_text(text + "\n")


def _values(report: "Report") -> Iterator[tuple[str, float]]:
    """Yield the values of the scores and series of a report, with their names."""
    for score in report.scores:
        yield score.metric, score.value
        if score.real is not None:
            yield f"{score.metric} of real data", score.real
    for series in report.series:
        for value in (*series.values, *(series.real or ())):
            yield series.metric, value
