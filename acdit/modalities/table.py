"""Table of modalities by name, and the modality of data, layouts and pipelines."""

from itertools import pairwise

from ..utils.errors import UserError
from .classification import CLASSIFICATION
from .image import IMAGE
from .modality import Modality
from .text import TEXT
from .video import VIDEO

GENERATED: dict[str, Modality] = {modality.name: modality for modality in (IMAGE, TEXT, VIDEO)}
MODALITIES: dict[str, Modality] = GENERATED | {CLASSIFICATION.name: CLASSIFICATION}


def modality_of_data(data: object) -> Modality:
    """Return the modality of a `DataConfig`: the one whose length is given, or the one without lengths.

    Raises:
        UserError: If the lengths of several modalities are given.
    """
    keys = {modality.length_key: modality for modality in GENERATED.values()}
    given = [modality for key, modality in keys.items() if key and getattr(data, key, None) is not None]
    for one, other in pairwise(given):
        raise UserError(
            f"data.{one.length_key} is for {one.many}, data.{other.length_key} for {other.many}: "
            "leave out one"
        )
    return given[0] if given else keys[None]


def modality_of_run(objective: str | None, data: object) -> Modality:
    """Return the modality of a training run: the one that its objective chooses, or else that of its data.

    Args:
        objective: Value of `training.objective`.
        data: A `DataConfig`.

    Raises:
        UserError: If the objective needs data of another modality.
    """
    of_data = modality_of_data(data)
    for modality in MODALITIES.values():
        if objective not in modality.objectives:
            continue
        if of_data.length_key is not None:
            raise UserError(
                f"training.objective {objective} needs {modality.samples}, not {of_data.samples}: leave out "
                f"data.{of_data.length_key}, and choose a data.source of {modality.samples}"
            )
        return modality
    return of_data


def modality_of_layout(axes: int) -> Modality:
    """Return the first modality whose layouts have this number of axes.

    Raises:
        UserError: If there is no such modality.
    """
    for modality in MODALITIES.values():
        if modality.axes == axes:
            return modality
    raise UserError(f"no modality has layouts of {axes} axes")


def modality_of_pipeline(class_name: str) -> Modality | None:
    """Return the modality whose pipeline class has this name; None if there is none."""
    return next((each for each in MODALITIES.values() if each.pipeline_name == class_name), None)
