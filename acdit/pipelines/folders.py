"""Folders of trained pipelines: their location and modality. Does not import torch."""

import json
from pathlib import Path

from ..modalities.modality import Modality
from ..modalities.table import MODALITIES, modality_of_pipeline
from ..utils.errors import UserError

SHIPPED = Path(__file__).parent.parent / "pretrained"
DEFAULT = "image"  # modality of the model that is used when no path is given
INDEX = "model_index.json"
# A model_index.json names the libraries of its components, and loading it imports them.
TRUSTED_LIBRARIES = {"acdit", "diffusers", "transformers"}


def shipped_models() -> list[str]:
    """Return the names of the models in the package."""
    return sorted(index.parent.name for index in SHIPPED.glob(f"*/{INDEX}"))


def pipeline_folder(path: str | Path | None) -> Path:
    """Return the folder of a pipeline.

    Args:
        path: folder of a pipeline, folder of a training run that exported one, or name of a model in the
            package; None = the default model of the package.

    Raises:
        UserError: if the folder lacks a file that a pipeline needs, or names libraries that must not be
            imported.
    """
    given = Path(MODALITIES[DEFAULT].model if path is None else path)
    if path is None or (str(path) in shipped_models() and not given.exists()):
        given = SHIPPED / given
    exported = given / "pipeline"
    folder = exported if (exported / INDEX).exists() else given
    if not (folder / INDEX).exists():
        raise UserError(
            f"{folder} is not a model: it has no {INDEX}; use the folder of a pipeline or of a finished "
            f"training run, or a model in the package: {', '.join(shipped_models())}"
        )
    index = json.loads((folder / INDEX).read_text())
    parts = {
        name: value[0]
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
    }
    unknown = set(parts.values()) - TRUSTED_LIBRARIES
    if unknown:
        raise UserError(
            f"{folder / INDEX} needs code of {', '.join(sorted(unknown))}, but acdit only loads code of "
            f"{', '.join(sorted(TRUSTED_LIBRARIES))}: use another model"
        )
    for part in parts:
        scheduler = part == "scheduler"
        for pattern in ["scheduler_config.json"] if scheduler else ["config.json", "*.safetensors"]:
            if not list((folder / part).glob(pattern)):
                raise UserError(
                    f"{folder} is incomplete: it has no {part}/{pattern}; copy or export the model again"
                )
    return folder


def folder_modality(folder: Path) -> Modality:
    """Return the modality of the pipeline in a folder, according to its model_index.json.

    Raises:
        UserError: if the folder holds a pipeline of another class.
    """
    name = json.loads((folder / INDEX).read_text())["_class_name"]
    modality = modality_of_pipeline(name)
    if modality is None:
        known = ", ".join(each.pipeline_name for each in MODALITIES.values())
        raise UserError(f"{folder} is a {name}, not one of {known}")
    return modality
