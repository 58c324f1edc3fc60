"""Check which data set a model was trained on, by what its pipeline records and never by the shape alone."""

from collections.abc import Sequence
from pathlib import Path

from ..data.config import DataConfig
from ..data.data_sets import PIXEL_SETS, built_in
from ..data.identity import named_classes
from ..pipelines.classification import ACDiTImageClassificationPipeline
from ..pipelines.pixel_pipeline import ACDiTPipeline
from ..pipelines.stored_pipeline import StoredPipeline
from ..training.checkpoint import stored_checkpoints
from ..training.stored_weights import CHECKPOINTS
from ..utils.errors import UserError
from ..utils.settings import build


def is_trained_on(pipeline: StoredPipeline, name: str, label_names: Sequence[str] = ()) -> bool:
    """Return whether a model may have been trained on a data set.

    The recorded name decides; pipelines of earlier versions record none. The class names must agree.

    Args:
        pipeline: pipeline of the model.
        name: name of the data set.
        label_names: names of its classes.
    """
    return pipeline.data_source in (None, name) and pipeline.class_names == list(label_names)


def built_in_data(pipeline: ACDiTPipeline | ACDiTImageClassificationPipeline) -> str | None:
    """Return the name of the built-in data set that a model may have been trained on; None if there is none.

    Its samples must have the size and the colours of the data set, and grey pixels where these are grey.
    """
    height, width = (side * pipeline.vae_scale_factor for side in pipeline.layout.size[-2:])
    modality = "image" if pipeline.layout.axes == 2 else "video"
    for name, data_set in PIXEL_SETS.items():
        fits = (data_set.modality, data_set.side, data_set.side, 1)
        if (modality, height, width, pipeline.pixel_channels) == fits and is_trained_on(
            pipeline, name, data_set.label_names
        ):
            return name
    return None


def recorded_data(model: str | None) -> DataConfig | None:
    """Return the configuration of the data of a training run, as its newest checkpoint records it.

    Args:
        model: folder of the run.

    Returns:
        The configuration; None if the model is no run with checkpoints, or its data are not there any more.
    """
    stored = stored_checkpoints(Path(model or "") / CHECKPOINTS)
    data = stored[-1].state.get("recipe", {}).get("data") if model and stored else None
    if not isinstance(data, dict):
        return None
    try:
        config = build(DataConfig, data)
    except UserError:  # a later version may have other keys
        return None
    local = config.source not in built_in()
    return None if local and not Path(config.source).expanduser().exists() else config


def describe_training_data(pipeline: StoredPipeline) -> str:
    """Describe what a pipeline records of the data that its network was trained on."""
    source = pipeline.data_source
    text = "its data set is not recorded" if source is None else f"this one was trained on {source}"
    classes = pipeline.class_names
    if not classes:
        return text
    names = [name for name in classes if name is not None]
    return f"{text}, its classes are " + (named_classes(names) if names else "without names")
