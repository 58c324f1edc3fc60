"""Names of LoRA weights in other programs, and adapters of q, k and v as one of their merged product."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..utils.errors import UserError

ROOTS = ("base_model.model.", "transformer.", "diffusion_model.", "model.")
FLATTENED_ROOTS = ("lora_transformer_", "lora_unet_")  # kohya: the dots of a name are underscores
PARTS = {
    ".lora_A.weight": "down",
    ".lora_A.default.weight": "down",
    ".lora_down.weight": "down",
    ".lora.down.weight": "down",
    ".lora_B.weight": "up",
    ".lora_B.default.weight": "up",
    ".lora_up.weight": "up",
    ".lora.up.weight": "up",
    ".alpha": "alpha",
}
PROJECTIONS = ("to_q", "to_k", "to_v")  # in the order of the rows of the merged weight
RENAMED = {"to_out.0": "proj", "to_out": "proj"}

Layers = dict[str, dict[str, Tensor]]


def adapted_layers(names: Sequence[str], targets: Sequence[str]) -> list[str]:
    """Return the names of the linear layers that targets name by their ends: `qkv` is `blocks.0.attn.qkv`.

    Args:
        names: Names of all linear layers of a network.
        targets: Ends of names.

    Raises:
        UserError: If a target is not the end of a name.
    """
    layers: dict[str, None] = {}
    for target in targets:
        matches = [name for name in names if f".{name}".endswith(f".{target}")]
        if not matches:
            # of `blocks.0.attn.qkv` the part after the number of the layer
            ends = dict.fromkeys(
                name.split(".", 2)[2] if name.startswith("blocks.") else name for name in names
            )
            raise UserError(
                f"lora.targets must name linear layers, such as {', '.join(ends)}, not {target!r}"
            )
        layers |= dict.fromkeys(matches)
    return list(layers)


def adapter_layers(
    network: nn.Module, weights: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> Layers:
    """Return the low-rank matrices of every adapted linear layer of a network, by the layer's name.

    Args:
        network: Network with merged projections `qkv` and output projections `proj`.
        weights: Weights of an adapter. Their names may begin with `transformer.` or `base_model.model.`, or
            be flattened as by kohya's scripts; `to_q`, `to_k`, `to_v` and `to_out` are parts of an attention.
        metadata: Configuration of peft with the scales of the layers, or None.

    Returns:
        For each layer `down` (rank, inputs) and `up` (outputs, rank), which includes the scale alpha / rank.

    Raises:
        UserError: If a weight is not a part of an adapter, or does not fit the network.
    """
    linear = {
        name.removesuffix(".base_layer"): (module.in_features, module.out_features)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and ".lora_" not in name
    }
    names = {name.replace(".", "_"): name for name in _all_names(linear)}
    layers: Layers = {}
    for key, tensor in weights.items():
        suffix = next((suffix for suffix in PARTS if key.endswith(suffix)), None)
        if suffix is None:
            raise UserError(f"the adapter has the weight {key!r}, which is no part of a low-rank adapter")
        layers.setdefault(_layer_name(key.removesuffix(suffix), names), {})[PARTS[suffix]] = tensor
    scaled = {name: _scaled(name, layer, metadata) for name, layer in layers.items()}
    joined = _joined(scaled, linear)
    for name, layer in joined.items():
        if name not in linear:
            raise UserError(f"the adapter is for a layer {name!r}, which the network does not have")
        fitting = layer["down"].shape[1:], layer["up"].shape[:1]
        if fitting != ((linear[name][0],), (linear[name][1],)):
            raise UserError(
                f"the adapter of {name} maps {layer['down'].shape[1]} to {layer['up'].shape[0]} values, but "
                f"the layer maps {linear[name][0]} to {linear[name][1]}"
            )
    return joined


def _all_names(linear: Mapping[str, Any]) -> list[str]:
    """Return the names of layers, and those of their parts in other programs."""
    names = list(linear)
    for name in linear:
        parent, _, last = name.rpartition(".")
        if last == "qkv":
            names += [f"{parent}.{part}" for part in PROJECTIONS]
        elif last == "proj":
            names += [f"{parent}.{other}" for other in RENAMED]
    return names


def _layer_name(name: str, names: Mapping[str, str]) -> str:
    """Return the network's name of a layer, without prefixes."""
    for root in FLATTENED_ROOTS:
        if name.startswith(root):
            name = names.get(name.removeprefix(root), name)
    for root in ROOTS:
        name = name.removeprefix(root)
    parent, _, rest = name.partition(".attn.")
    return f"{parent}.attn.{RENAMED[rest]}" if rest in RENAMED else name


def _scaled(name: str, layer: Mapping[str, Tensor], metadata: Any) -> dict[str, Tensor]:
    """Return the two matrices of a layer, the second one times alpha / rank."""
    if "down" not in layer or "up" not in layer:
        raise UserError(
            f"the adapter of {name} is incomplete: it needs a matrix down (A) and a matrix up (B)"
        )
    down, up = layer["down"], layer["up"]
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
        raise UserError(
            f"the adapter of {name} needs matrices (rank, inputs) and (outputs, rank), not "
            f"{tuple(down.shape)} and {tuple(up.shape)}"
        )
    rank = len(down)
    if "alpha" in layer:
        scale = float(layer["alpha"]) / rank
    elif metadata:
        alpha = _of_pattern(name, metadata.get("alpha_pattern"), metadata.get("lora_alpha", rank))
        scale = alpha / (rank**0.5 if metadata.get("use_rslora") else rank)
    else:
        scale = 1.0
    return {"down": down, "up": up if scale == 1 else up * scale}


def _of_pattern(name: str, patterns: Mapping[str, float] | None, default: float) -> float:
    """Return the value of the first pattern of peft that a layer's name matches at its end."""
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            return value
    return default


def _joined(layers: Layers, linear: Mapping[str, tuple[int, int]]) -> Layers:
    """Replace adapters of `to_q`, `to_k` and `to_v` by one of their merged product.

    The matrices down are stacked, and those up become block-diagonal: each acts on its own rows alone.
    """
    joined: Layers = {}
    for name, layer in layers.items():
        parent, _, last = name.rpartition(".")
        merged = f"{parent}.qkv"
        if last not in PROJECTIONS or merged not in linear:
            joined[name] = layer
            continue
        if merged in layers:
            raise UserError(f"the adapter has weights of both {merged} and {name}; leave one of them out")
        if merged in joined:
            continue
        rows = linear[merged][1] // len(PROJECTIONS)
        downs, ups = [], []
        for index, part in enumerate(PROJECTIONS):
            if (given := layers.get(f"{parent}.{part}")) is None:
                continue
            if len(given["up"]) != rows:
                raise UserError(
                    f"the adapter of {parent}.{part} must have {rows} outputs, not {len(given['up'])}"
                )
            up = torch.zeros(linear[merged][1], given["up"].shape[1], dtype=given["up"].dtype)
            up[index * rows : (index + 1) * rows] = given["up"]
            downs.append(given["down"])
            ups.append(up)
        joined[merged] = {"down": torch.cat(downs), "up": torch.cat(ups, dim=1)}
    return joined
