"""JSON files of scores, written by `acdit evaluate`."""

import json
from pathlib import Path

from ..pipelines.folders import pipeline_folder
from ..utils.files import check_writable, whole


def check_score_file(out: str | None) -> None:
    """Raise UserError if the score file cannot be written; call it before the work that would be lost."""
    if out is not None:
        check_writable(Path(out))


def write_scores(model: str | None, scores: object, out: str | None) -> None:
    """Write the scores of a model to a JSON file, or print them if no file is named."""
    report = json.dumps({"model": str(pipeline_folder(model)), "scores": scores}, indent=2)
    if out is None:
        print(report)
        return
    with whole(Path(out)) as temporary_path:
        temporary_path.write_text(report + "\n")
