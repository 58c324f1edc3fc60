"""LoRA (arXiv 2106.09685): low-rank adapters of a trained network, implemented with peft and diffusers."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..model.lora_names import adapted_layers
from ..model.transformer import ACDiTTransformer
from ..utils.errors import require


def add_lora(network: ACDiTTransformer, rank: int, alpha: float | None, targets: Sequence[str]) -> None:
    """Add adapters to linear layers of a network, in place, and freeze everything else.

    The network's output is unchanged until the adapters are trained. Their initial weights are drawn from
    torch's global generator.

    Args:
        network: Network to adapt.
        rank: Rank of the adapters.
        alpha: Scale of the adapters, which are multiplied by alpha / rank; None = the rank.
        targets: Layers to adapt, by the ends of their names: `qkv` for `blocks.0.attn.qkv` and so on.

    Raises:
        UserError: If no linear layer has the name of one of the targets, or peft is not installed.
    """
    peft = require("peft", "lora")
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    layers = adapted_layers(linear, targets)
    config = peft.LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=layers)
    network.add_adapter(config)


def trainable(network: nn.Module) -> list[str]:
    """Return the names of the trainable parameters."""
    return [name for name, parameter in network.named_parameters() if parameter.requires_grad]


def merged(network: ACDiTTransformer) -> ACDiTTransformer:
    """Return a copy with the adapters merged into the weights: a plain network, without peft."""
    plain = copy.deepcopy(network)
    plain.fuse_lora()
    plain.unload_lora()
    return plain.requires_grad_(True)


class Adapters(NamedTuple):
    """Weights of the adapters of a network, by name, and their configuration."""

    weights: dict[str, Tensor]
    config: dict[str, Any]


def adapters_of(network: ACDiTTransformer) -> Adapters:
    """Return the adapters of a network, as `save_lora_weights` of a pipeline takes them."""
    peft = require("peft", "lora")
    config = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in network.peft_config["default"].to_dict().items()
    }
    return Adapters(peft.get_peft_model_state_dict(network, adapter_name="default"), config)
