"""Finding and opening trained pipelines on disk."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from ..utils.errors import UserError
from .image import ACDiTImagePipeline
from .text import ACDiTTextPipeline
from .video import ACDiTVideoPipeline

SHIPPED = Path(__file__).parent.parent / "pretrained"
OF_KIND = {"image": "mnist", "video": "moving-digits", "text": "shakespeare"}  # of the models in the package
INDEX = "model_index.json"
PIPELINES: dict[str, type[Any]] = {
    "ACDiTImagePipeline": ACDiTImagePipeline,
    "ACDiTTextPipeline": ACDiTTextPipeline,
    "ACDiTVideoPipeline": ACDiTVideoPipeline,
}
# A model_index.json names the libraries that its parts come from, and loading imports them.
TRUSTED_LIBRARIES = {"acdit", "diffusers", "transformers"}


def shipped_models() -> list[str]:
    """Names of the models in the package."""
    return sorted(index.parent.name for index in SHIPPED.glob(f"*/{INDEX}"))


def pipeline_folder(path: str | Path | None) -> Path:
    """The folder of a pipeline: as given, or as a run exported it; one in the package by name, or for None.

    Raises:
        UserError: if the folder lacks what a pipeline needs, or names libraries that are not to be imported.
    """
    given = Path(OF_KIND["image"] if path is None else path)
    if path is None or (str(path) in shipped_models() and not given.exists()):
        given = SHIPPED / given
    exported = given / "pipeline"
    folder = exported if (exported / INDEX).exists() else given
    if not (folder / INDEX).exists():
        raise UserError(
            f"{folder} is not a model: it lacks {INDEX}; name a pipeline, a finished training run, or one in "
            f"the package: {', '.join(shipped_models())}"
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
    """The pipeline in a folder, of a training run, or in the package; see `pipeline_folder`.

    Args:
        path: a folder, or the name of one of `shipped_models`; the model of MNIST digits when left out.
        dtype: of the network's weights.

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
