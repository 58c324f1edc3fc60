"""Check the files of a stored network, whose sizes are compared before anything is allocated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..utils.finite import check_finite
from ..utils.kinds import BOOL, TEXT, Kind, check_values, list_of, number, one_of, whole_number
from ..utils.untrusted import StoredTensor, damage, plain, read_object, reading
from .rope import POSITIONS, VARIANTS
from .weight_files import CONFIG, read_weight_headers

NUMBERS = ("F64", "F32", "F16", "BF16")
MAX_SHOWN = 3  # number of tensors that an error message names

# Keys of a network's configuration; all of them may be missing, since they have defaults.
KINDS: dict[str, Kind] = {
    "in_channels": whole_number().or_none(),
    "axis_lengths": list_of(whole_number(), range(1, 4)),
    "num_layers": whole_number(0),
    "hidden_size": whole_number(),
    "num_heads": whole_number(),
    "mlp_ratio": number(0),
    "num_classes": whole_number(0).or_none(),
    "time_conditioning": BOOL,
    "vocab_size": whole_number().or_none(),
    "rope": one_of(*VARIANTS),
    "rope_split": list_of(whole_number(0), range(1, 4)).or_none(),
    "format_version": whole_number(0),
    "positions": one_of(*POSITIONS).if_given(),  # earlier versions had neither
    "context": one_of("clean", "noised").if_given(),
}

OF_GENERATORS = ("num_classes", "time_conditioning", "vocab_size", "context")
CLASSIFIER_KINDS: dict[str, Kind] = {
    **{key: kind for key, kind in KINDS.items() if key not in OF_GENERATORS},
    "in_channels": whole_number(),
    "num_labels": whole_number(),
    "layers": list_of(whole_number(0), range(1, 1000)).or_none(),
    "pooling": Kind("a pooling, or a list of them", lambda value: isinstance(value, str | list)),
    "queries": whole_number(),
    "attention": TEXT,
    "timestep": number(0).or_none(),
    "null_label": BOOL,
    "prediction_type": TEXT.or_none(),
}
OF_ACDIT = ("context", "positions", "rope", "time_conditioning", "vocab_size")
TOKEN_HEAD_KINDS: dict[str, Kind] = {
    **{key: kind for key, kind in KINDS.items() if key not in OF_ACDIT},
    "in_channels": whole_number(),
    "head_layers": whole_number(),
    "head_size": whole_number().or_none(),
}
NETWORK_KINDS = {
    "ACDiTTransformer": KINDS,
    "ACDiTForImageClassification": CLASSIFIER_KINDS,
    "CausalTokenDiffusion": TOKEN_HEAD_KINDS,
}


def read_network_config(folder: Path, class_name: str = "ACDiTTransformer") -> dict[str, Any]:
    """Return the configuration of a network of a class in a folder, after checking its values.

    Raises:
        UserError: if it is damaged.
    """
    path, kinds = folder / CONFIG, NETWORK_KINDS[class_name]
    return check_values(read_object(path), {key: kind.if_given() for key, kind in kinds.items()}, path)


def check_network(cls: type[nn.Module], folder: Path, variant: str | None = None) -> None:
    """Check that the weights in a folder are those of the network that its configuration describes.

    Only the headers of the files are read.

    Args:
        cls: class of the network.
        folder: folder with `config.json` and safetensors files.
        variant: variant of the files, as in diffusers; None = the plain ones.

    Raises:
        UserError: if a file is damaged, or a tensor is missing or has another shape.
    """
    name = next(base.__name__ for base in cls.__mro__ if base.__name__ in NETWORK_KINDS)
    config = read_network_config(folder, name)
    header = read_weight_headers(folder, variant)
    layers = max(config.get("layers") or [config.get("num_layers", 0)])  # up to the last head of a classifier
    layers += config.get("head_layers", 0)
    if layers > len(header):
        raise damage(folder, f"{CONFIG} has {layers:,} layers, but there are {len(header):,} tensors")
    with reading(folder), torch.device("meta"):
        network = cls(**{key: value for key, value in config.items() if key in NETWORK_KINDS[name]})
    if "quantization_config" not in config:  # quantized tensors have other shapes
        compare_shapes(folder, header, network)


def compare_shapes(folder: Path, header: Mapping[str, StoredTensor], network: nn.Module) -> None:
    """Raise UserError unless just a network's tensors are stored, with their shapes and as numbers."""
    tensors = network.state_dict()
    wrong = [f"{plain(name)} is unexpected" for name in header if name not in tensors]
    for name, tensor in tensors.items():
        stored, expected = header.get(name), tuple(tensor.shape)
        if stored is None:
            wrong.append(f"{name} is missing")
        elif stored.shape != expected:
            wrong.append(f"{name} is {list(stored.shape)}, not {list(expected)}")
        elif stored.dtype not in NUMBERS:
            wrong.append(f"{name} holds {stored.dtype}, not one of {', '.join(NUMBERS)}")
    if wrong:
        more = f"; and {len(wrong) - MAX_SHOWN} more" if len(wrong) > MAX_SHOWN else ""
        raise damage(folder, f"its weights do not fit {CONFIG}: {'; '.join(wrong[:MAX_SHOWN])}{more}")


def check_weights(folder: Path, network: nn.Module) -> None:
    """Raise UserError if a weight of a loaded network is not finite, or was not stored."""
    weights = network.state_dict()
    for name, tensor in weights.items():
        if tensor.is_meta:
            raise damage(folder, f"{name} is missing")
    check_finite(
        weights,
        f"the weights of {folder}",
        "the file is damaged or the training failed; use another model or an earlier checkpoint",
    )
