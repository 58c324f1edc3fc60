"""Finding and opening trained pipelines on disk."""

import json
from pathlib import Path

import torch
from diffusers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from ..errors import UserError
from .image import ACDiTImagePipeline

SHIPPED = Path(__file__).parent.parent / "pretrained" / "mnist"
INDEX = "model_index.json"
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


def load_pipeline(path: str | Path | None = None, dtype: torch.dtype = torch.float32) -> ACDiTImagePipeline:
    """The pipeline in a folder, of a training run, or the shipped one; see `pipeline_folder`."""
    folder = pipeline_folder(path)
    shown = is_progress_bar_enabled()
    disable_progress_bar()  # of diffusers, over the few parts of a pipeline
    try:
        return ACDiTImagePipeline.from_pretrained(folder, dtype=dtype)
    finally:
        if shown:
            enable_progress_bar()
