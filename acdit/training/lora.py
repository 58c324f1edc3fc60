"""LoRA (arXiv 2106.09685): low-rank adapters of a trained network, through peft and diffusers."""

import copy
from collections.abc import Sequence

from torch import nn

from ..model.transformer import ACDiTTransformer
from ..utils.errors import UserError, require


def add_lora(network: ACDiTTransformer, rank: int, alpha: float | None, targets: Sequence[str]) -> None:
    """Give linear layers of a network adapters, in place, and freeze everything else.

    The answer stays as it is until the adapters have learned. Their start is drawn from torch's global
    generator.

    Args:
        network: to adapt.
        rank: of the adapters.
        alpha: the adapters are scaled by alpha / rank; None = the rank.
        targets: which layers, by the end of their names: `qkv` for `blocks.0.attn.qkv` and so on.

    Raises:
        UserError: if no linear layer is called like one of the targets, or peft is not installed.
    """
    peft = require("peft", "lora")
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    chosen: list[str] = []
    for target in targets:
        meant = [name for name in linear if f".{name}".endswith(f".{target}")]
        if not meant:
            known = dict.fromkeys(_short(name) for name in linear)
            raise UserError(
                f"lora.targets must name linear layers, such as {', '.join(known)}, not {target!r}"
            )
        chosen += meant
    config = peft.LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=chosen)
    network.add_adapter(config)


def trainable(network: nn.Module) -> list[str]:
    """Names of the parameters that learn."""
    return [name for name, parameter in network.named_parameters() if parameter.requires_grad]


def merged(network: ACDiTTransformer) -> ACDiTTransformer:
    """A copy with the adapters added to the weights that they adapt: a plain network, without peft."""
    plain = copy.deepcopy(network)
    plain.fuse_lora()
    plain.unload_lora()
    return plain.requires_grad_(True)


def _short(name: str) -> str:
    """What follows the number of a layer: `attn.qkv` of `blocks.0.attn.qkv`."""
    return name.split(".", 2)[2] if name.startswith("blocks.") else name
