"""Networks of `transformers` in folders of others: loaded from safetensors without executing code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..model.weight_files import CONFIG
from ..utils.errors import UserError
from ..utils.hub import loading
from ..utils.untrusted import damage, read_object, shown, tensor_header

NO_CODE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}


def load_vision_network(
    folder: Path, network_class: Any, types: tuple[str, ...], subject: str, shared: tuple[str, ...] = ()
) -> Any:
    """Return a network of images in float32.

    Args:
        folder: folder of the network.
        network_class: class of the network in `transformers`.
        types: types of models that the class can load, as config.json names them.
        subject: name of the network in messages.
        shared: keys of the configuration of a larger model that also hold for its network of images.

    Raises:
        UserError: if the folder holds no such network, or is damaged.
    """
    with loading(subject, folder):
        values = read_object(folder / CONFIG, infinite=True)
        stored = values.get("model_type")
        if stored not in types:
            raise UserError(f"{folder} has a model of type {shown(stored)}, not {' or '.join(types)}")
        common = {key: values[key] for key in shared if key in values}
        config = check_size(folder, network_class.config_class, network_class, **common)
        with _without_reports():
            network, loaded = network_class.from_pretrained(
                folder,
                config=config,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are checked below
                dtype=torch.float32,
                **NO_CODE,
            )
    check_complete(loaded, subject)
    return network.eval().requires_grad_(False)


def check_size(folder: Path, config_class: Any, build: Callable[[Any], nn.Module], **common: Any) -> Any:
    """Return the configuration of a network, after checking that the network is no larger than its weights.

    Args:
        folder: folder of the network.
        config_class: class of the configuration in `transformers`.
        build: function of the configuration that builds the network.
        common: values that replace those of the configuration.

    Raises:
        UserError: if the network is larger than the weights in the folder.
    """
    path = folder / CONFIG
    values = read_object(path, infinite=True)
    files = [file for file in folder.glob("*.safetensors") if file.is_file()]
    stored = [tensor for file in files for tensor in tensor_header(file).values()]
    if not stored:
        raise UserError(f"{folder} has no weights in a safetensors file")

    def check_layers(layers: object) -> None:
        if type(layers) is not int or layers > len(stored):
            raise damage(path, f"it has {shown(layers)} layers, but there are {len(stored):,} tensors")

    for part in (values, *(value for value in values.values() if isinstance(value, dict))):
        check_layers(part.get("num_hidden_layers", 0))  # some configurations hold a name for each layer
    config = config_class.from_pretrained(folder, **common, **NO_CODE)
    check_layers(getattr(config, "num_hidden_layers", 0))
    with torch.device("meta"):
        sizes = [parameter.numel() for parameter in build(config).parameters()]
    needed, available = sum(sizes), sum(tensor.elements for tensor in stored)
    if needed > available + max(sizes):  # embeddings are stored once if the output has the same weights
        raise damage(folder, f"its network has {needed:,} parameters, but {available:,} are stored")
    return config


def check_complete(loaded: dict[str, Any], subject: str) -> None:
    """Raise UserError if weights were missing or of other sizes, given the info of `from_pretrained`."""
    if loaded["missing_keys"]:
        missing = ", ".join(sorted(loaded["missing_keys"])[:3])
        raise UserError(f"{subject} cannot be loaded: it lacks weights, such as {missing}")
    if loaded.get("mismatched_keys"):
        name = sorted(str(key[0]) for key in loaded["mismatched_keys"])[0]
        raise UserError(f"{subject} cannot be loaded: {name} has another size than config.json describes")


@contextmanager
def _without_reports() -> Iterator[None]:
    """Keep `transformers` from printing tables of the weights that a network does not use."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
