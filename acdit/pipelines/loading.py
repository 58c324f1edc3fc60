"""Loading of trained pipelines from disk."""

from pathlib import Path
from typing import TypeVar, cast

import torch
from diffusers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from ..modalities.modality import Modality
from ..modalities.table import MODALITIES
from ..utils.errors import UserError, in_words
from ..utils.references import load_object
from .block_pipeline import BlockPipeline
from .folders import folder_modality, pipeline_folder
from .stored_pipeline import StoredPipeline

P = TypeVar("P", bound=StoredPipeline)


def load_pipeline(
    path: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    kind: type[P] = BlockPipeline,
) -> P:
    """Load a pipeline from a folder, from a training run or from the package.

    A model on the Hugging Face hub is loaded by `from_pretrained` of its class.

    Args:
        path: folder of a pipeline or of a finished training run, or name of a model in the package: `mnist`,
            `moving-digits`, `shakespeare` or `mnist-classifier`; None = `mnist`.
        dtype: data type of the network's weights.
        kind: class that the pipeline must have, such as `ACDiTVideoPipeline`; default: any generator. A
            classifier is an `ACDiTImageClassificationPipeline`.

    Returns:
        A pipeline of the class that the folder names, such as an `ACDiTImagePipeline`.

    Raises:
        UserError: if the folder holds no pipeline, a damaged one, or a pipeline of another class.
    """
    folder = pipeline_folder(path)
    modality = folder_modality(folder)
    cls = _class_of(modality)
    if not issubclass(cls, kind):
        suited = [each.many for each in MODALITIES.values() if issubclass(_class_of(each), kind)]
        expected = in_words(suited, "or") if suited else kind.__name__
        raise UserError(f"{folder} is a model of {modality.many} ({cls.__name__}), not one of {expected}")
    shown = is_progress_bar_enabled()
    disable_progress_bar()  # the bar of diffusers over the few components of a pipeline
    try:
        return cls.from_pretrained(folder, dtype=dtype)
    finally:
        if shown:
            enable_progress_bar()


def _class_of(modality: Modality) -> type[StoredPipeline]:
    return cast(type[StoredPipeline], load_object(modality.pipeline))
