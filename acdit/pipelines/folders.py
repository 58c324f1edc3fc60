"""Folders of trained pipelines: their location and modality. Does not import torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.tokenizers import FILE, Tokenizer, open_tokenizer
from ..modalities.modality import Modality
from ..modalities.table import MODALITIES, modality_of_pipeline
from ..utils.errors import UserError
from ..utils.untrusted import plain, read_object
from .stored import INDEX, check_index, check_parts

SHIPPED = Path(__file__).parent.parent / "pretrained"
DEFAULT = "image"  # modality of the model that is used when no path is given


def shipped_models() -> list[str]:
    """Return the names of the models in the package."""
    return sorted(index.parent.name for index in SHIPPED.glob(f"*/{INDEX}"))


def pipeline_folder(path: str | Path | None) -> Path:
    """Return the folder of a pipeline.

    Args:
        path: folder of a pipeline, folder of a training run that exported one, or name of a model in the
            package; None = the default model of the package.

    Raises:
        UserError: if the folder lacks a file that a pipeline needs, is damaged, or names libraries that must
            not be imported.
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
    check_parts(folder, read_object(folder / INDEX))
    return folder


def folder_modality(folder: Path, *, with_network: bool = True) -> Modality:
    """Return the modality of the pipeline in a folder, according to its model_index.json.

    Args:
        folder: folder of the pipeline.
        with_network: whether the folder's network is used, so that it must fit.

    Raises:
        UserError: if the folder holds a pipeline of another class, or is damaged.
    """
    index = read_object(folder / INDEX)
    name = pipeline_class_name(index)
    modality = modality_of_pipeline(name) if isinstance(name, str) else None
    if modality is None:
        known = ", ".join(each.pipeline_name for each in MODALITIES.values())
        raise UserError(f"{folder} is a {plain(name)}, not one of {known}")
    network = folder / modality.network[0] / "config.json" if with_network else None
    check_index(folder / INDEX, index, modality, network and read_object(network))
    return modality


def folder_classes(folder: Path) -> tuple[dict[int, str], int]:
    """Return the class names by class id of a pipeline in a folder, and the number of its classes.

    Raises:
        UserError: as `folder_modality`.
    """
    network = read_object(folder / folder_modality(folder).network[0] / "config.json")
    names = read_object(folder / INDEX).get("id2label") or {}
    return {int(label): name or "" for label, name in names.items()}, network.get("num_classes") or 0


def pipeline_class_name(index: Mapping[str, Any]) -> object:
    """Return the name of the pipeline's class: `NAME`, or of the form that names pipeline.py too."""
    name = index.get("_class_name")
    return name[1] if isinstance(name, list) and len(name) == 2 else name


def network_class_name(folder: Path) -> str:
    """Return the name of the class of a pipeline's network, according to its model_index.json."""
    name = folder_modality(folder).network[0]
    return read_object(folder / INDEX)[name][1]


def tokenizer_beside(network: Mapping[str, Any]) -> Tokenizer | None:
    """Return the tokenizer of the saved pipeline that a network was loaded from; None if there is none.

    diffusers loads a pipeline's components and passes them to its class, but not the tokenizer.

    Args:
        network: configuration of the network, in which diffusers records its folder.

    Raises:
        UserError: if the tokenizer is damaged.
    """
    name = network.get("_name_or_path")
    folder = Path(str(name)).parent
    if not name or not (folder / INDEX).is_file() or not (folder / FILE).is_file():
        return None
    return open_tokenizer(str(folder / FILE))
