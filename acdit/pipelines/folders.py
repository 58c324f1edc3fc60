"""Folders of trained pipelines: where they are, and of which modality. Free of torch."""

import json
from pathlib import Path

from ..modalities.modality import Modality
from ..modalities.table import MODALITIES, modality_of_pipeline
from ..utils.errors import UserError

SHIPPED = Path(__file__).parent.parent / "pretrained"
DEFAULT = "image"  # modality of the model that is taken where nothing tells
INDEX = "model_index.json"
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
    given = Path(MODALITIES[DEFAULT].model if path is None else path)
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


def folder_modality(folder: Path) -> Modality:
    """Return the modality of the pipeline in a folder, by its model_index.json.

    Raises:
        UserError: if the folder holds another kind of pipeline.
    """
    name = json.loads((folder / INDEX).read_text())["_class_name"]
    modality = modality_of_pipeline(name)
    if modality is None:
        known = ", ".join(each.pipeline_name for each in MODALITIES.values())
        raise UserError(f"{folder} is a {name}, not one of {known}")
    return modality
