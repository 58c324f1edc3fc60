"""JSON files of scores, as `acdit evaluate` writes them."""

import json
from pathlib import Path

from ..pipelines.folders import pipeline_folder
from ..utils.files import check_writable, whole


def check_score_file(out: str | None) -> None:
    """Raise UserError if scores could not be written, before the work that would be lost."""
    if out is not None:
        check_writable(Path(out))


def write_scores(model: str | None, scores: object, out: str | None) -> None:
    """Write the scores of a model as JSON into a file, or print them where none is named."""
    report = json.dumps({"model": str(pipeline_folder(model)), "scores": scores}, indent=2)
    if out is None:
        print(report)
        return
    with whole(Path(out)) as temporary_path:
        temporary_path.write_text(report + "\n")
