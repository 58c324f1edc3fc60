"""Finding and opening trained pipelines on disk."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from ..errors import UserError
from .image import ACDiTImagePipeline
from .text import ACDiTTextPipeline
from .video import ACDiTVideoPipeline

SHIPPED = Path(__file__).parent.parent / "pretrained" / "mnist"
INDEX = "model_index.json"
PIPELINES: dict[str, type[Any]] = {
    "ACDiTImagePipeline": ACDiTImagePipeline,
    "ACDiTTextPipeline": ACDiTTextPipeline,
    "ACDiTVideoPipeline": ACDiTVideoPipeline,
}
# A model_index.json names the libraries that its parts come from, and loading imports them.
TRUSTED_LIBRARIES = {"acdit", "diffusers", "transformers"}


def pipeline_folder(path: str | Path | None) -> Path:
    """The folder of a pipeline: as given, or as a training run exported it; the shipped one for None.

    Raises:
        UserError: if the folder lacks what a pipeline needs, or names libraries that are not to be imported.
    """
    given = SHIPPED if path is None else Path(path)
    exported = given / "pipeline"
    folder = exported if (exported / INDEX).exists() else given
    if not (folder / INDEX).exists():
        raise UserError(
            f"{folder} is not a model: it lacks {INDEX}; name a pipeline or a finished training run"
        )
    index = json.loads((folder / INDEX).read_text())
    parts = {
        name: value[0]
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
    }
    unknown = set(parts.values()) - TRUSTED_LIBRARIES
    if unknown:
        raise UserError(f"{folder / INDEX} names libraries that are not loaded: {', '.join(sorted(unknown))}")
    for part in parts:
        scheduler = part == "scheduler"
        for pattern in ["scheduler_config.json"] if scheduler else ["config.json", "*.safetensors"]:
            if not list((folder / part).glob(pattern)):
                raise UserError(
                    f"{folder} is not a whole model: it lacks {part}/{pattern}; copy or export it again"
                )
    return folder


def load_pipeline(path: str | Path | None = None, dtype: torch.dtype = torch.float32) -> Any:
    """The pipeline in a folder, of a training run, or the shipped one; see `pipeline_folder`.

    Returns:
        An `ACDiTImagePipeline`, `ACDiTVideoPipeline` or `ACDiTTextPipeline`, as the folder says.
    """
    folder = pipeline_folder(path)
    kind = json.loads((folder / INDEX).read_text())["_class_name"]
    if kind not in PIPELINES:
        raise UserError(f"{folder} is a {kind}, not one of {', '.join(PIPELINES)}")
    shown = is_progress_bar_enabled()
    disable_progress_bar()  # of diffusers, over the few parts of a pipeline
    try:
        return PIPELINES[kind].from_pretrained(folder, dtype=dtype)
    finally:
        if shown:
            enable_progress_bar()
