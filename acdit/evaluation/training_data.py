"""Check which data set a model was trained on, by what its pipeline records and never by the shape alone."""

from collections.abc import Sequence

from ..data.identity import named_classes
from ..pipelines.block_pipeline import BlockPipeline


def is_trained_on(pipeline: BlockPipeline, name: str, label_names: Sequence[str] = ()) -> bool:
    """Return whether a model may have been trained on a data set.

    The recorded name decides; pipelines of earlier versions record none. The class names must agree.

    Args:
        pipeline: pipeline of the model.
        name: name of the data set.
        label_names: names of its classes.
    """
    return pipeline.data_source in (None, name) and pipeline.class_names == list(label_names)


def describe_training_data(pipeline: BlockPipeline) -> str:
    """Describe what a pipeline records of the data that its network was trained on."""
    source = pipeline.data_source
    text = "its data set is not recorded" if source is None else f"this one was trained on {source}"
    if not pipeline.class_names:
        return text
    names = [name for name in pipeline.class_names if name is not None]
    return f"{text}, its classes are " + (named_classes(names) if names else "without names")
