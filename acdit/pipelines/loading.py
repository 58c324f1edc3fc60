"""Opening trained pipelines on disk."""

from pathlib import Path
from typing import TypeVar, cast

import torch
from diffusers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from ..utils.errors import UserError
from ..utils.references import load_object
from .block_pipeline import BlockPipeline
from .folders import folder_modality, pipeline_folder

P = TypeVar("P", bound=BlockPipeline)


def load_pipeline(
    path: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    kind: type[P] = BlockPipeline,
) -> P:
    """Load the pipeline in a folder, of a training run, or in the package; see `pipeline_folder`.

    Args:
        path: a folder, or the name of one of `shipped_models`; the model of MNIST digits when left out.
        dtype: of the network's weights.
        kind: class that the pipeline must be of, such as `ACDiTVideoPipeline`; any when left out.

    Returns:
        An `ACDiTImagePipeline`, `ACDiTVideoPipeline` or `ACDiTTextPipeline`, as the folder says.

    Raises:
        UserError: if the folder holds no pipeline, or one of another class.
    """
    folder = pipeline_folder(path)
    modality = folder_modality(folder)
    cls = cast(type[BlockPipeline], load_object(modality.pipeline))
    if not issubclass(cls, kind):
        raise UserError(f"{folder} is a {cls.__name__}, not a {kind.__name__}")
    shown = is_progress_bar_enabled()
    disable_progress_bar()  # of diffusers, over the few parts of a pipeline
    try:
        return cls.from_pretrained(folder, dtype=dtype)
    finally:
        if shown:
            enable_progress_bar()
