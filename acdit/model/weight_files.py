"""Names of the files of a diffusers model, and the headers of its weights. Does not import torch."""

from pathlib import Path

from ..utils.untrusted import StoredTensor, damage, file_name, read_object, shown, tensor_header

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model"
SUFFIX = ".safetensors"


def read_weight_headers(folder: Path, variant: str | None = None) -> dict[str, StoredTensor]:
    """Return the tensors of a network in a folder by name, from the headers of its files.

    Files that the index of a divided network does not list are ignored.

    Raises:
        UserError: if a file is missing or damaged.
    """
    part = f".{variant}" if variant else ""
    index = folder / f"{WEIGHTS}{SUFFIX}.index{part}.json"
    if not index.is_file():
        return tensor_header(folder / f"{WEIGHTS}{part}{SUFFIX}")
    files = read_object(index).get("weight_map")
    if not isinstance(files, dict) or not files or not all(map(file_name, files.values())):
        raise damage(index, "weight_map must name a file in the same folder for every tensor")
    headers = {name: tensor_header(folder / name) for name in sorted(set(files.values()))}
    for name, file in files.items():
        if name not in headers[file]:
            raise damage(index, f"{file} does not hold the tensor {shown(name)}")
    return {name: headers[file][name] for name, file in files.items()}
