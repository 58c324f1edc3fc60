"""LoRA weights of pipelines: loading, saving and fusing, as in diffusers."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LoraBaseMixin, _fetch_state_dict
from torch import Tensor

from ..model.lora_names import ROOTS, adapter_layers
from ..utils.errors import UserError, reason_of, require

FETCHING = ("cache_dir", "force_download", "proxies", "local_files_only", "token", "revision", "subfolder")


class LoraLoader(LoraBaseMixin):
    """Methods of a pipeline that load low-rank adapters of its network, choose among them and fuse them.

    All methods need peft. `load_lora_weights` reads safetensors files alone.
    """

    _lora_loadable_modules = ["transformer"]
    transformer_name = "transformer"

    transformer: Any

    @classmethod
    def lora_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        pretrained_model_name_or_path_or_dict: str | Path | Mapping[str, Tensor],
        *,
        weight_name: str | None = None,
        return_lora_metadata: bool = False,
        **fetching: Any,
    ) -> Any:
        """Return the weights of an adapter by name, from a file, a folder, the hub or a dictionary.

        Args:
            pretrained_model_name_or_path_or_dict: Where the weights are, or the weights.
            weight_name: Name of the safetensors file in the folder or repository.
            return_lora_metadata: Whether to return the metadata of the file, too.
            fetching: Arguments of downloads, such as `subfolder` and `revision`.

        Raises:
            UserError: If the file is not in safetensors format, or does not exist.
        """
        source: Any = pretrained_model_name_or_path_or_dict
        fetching.pop("use_safetensors", None)
        unknown = sorted(set(fetching) - {*FETCHING})
        if unknown:
            raise UserError(
                f"LoRA weights are loaded with {', '.join(FETCHING)}, not with {', '.join(unknown)}"
            )
        source = dict(source) if isinstance(source, Mapping) else str(source)
        for name in (weight_name, source if os.path.isfile(str(source)) else None):
            if name is not None and not name.endswith(".safetensors"):
                raise UserError(f"LoRA weights must be a .safetensors file, not {name}")
        arguments: dict[str, Any] = dict.fromkeys(FETCHING) | fetching
        try:
            weights, metadata = _fetch_state_dict(
                pretrained_model_name_or_path_or_dict=source,
                weight_name=weight_name,
                use_safetensors=True,
                user_agent={"file_type": "attn_procs_weights", "framework": "pytorch"},
                allow_pickle=False,
                **arguments,
            )
        except (OSError, ValueError, IndexError) as fault:
            reason = reason_of(fault)
            raise UserError(f"no LoRA weights can be read from {source}: {reason}") from fault
        return (weights, metadata) if return_lora_metadata else weights

    def load_lora_weights(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        pretrained_model_name_or_path_or_dict: str | Path | Mapping[str, Tensor],
        adapter_name: str | None = None,
        *,
        hotswap: bool = False,
        network_alphas: Mapping[str, float] | None = None,
        low_cpu_mem_usage: bool = False,
        **kwargs: Any,
    ) -> None:
        """Load an adapter of the network, which then acts on what the pipeline generates.

        Weights of separate projections `to_q`, `to_k` and `to_v` become an adapter of their merged product.

        Args:
            pretrained_model_name_or_path_or_dict: File, folder, name on the hub, or weights by name.
            adapter_name: Name of the adapter; default: `default_0` and so on.
            hotswap: Whether to replace the loaded adapter of this name in place.
            network_alphas: Scale alpha of each layer, by `NAME.alpha`.
            low_cpu_mem_usage: Whether not to initialise the weights before they are loaded.
            kwargs: Arguments of `lora_state_dict`.

        Raises:
            UserError: If the weights do not fit the network, or peft is not installed.
        """
        require("peft", "lora")
        weights, metadata = self.lora_state_dict(
            pretrained_model_name_or_path_or_dict, return_lora_metadata=True, **kwargs
        )
        weights = weights | {key: torch.tensor(float(alpha)) for key, alpha in (network_alphas or {}).items()}
        layers = adapter_layers(self.transformer, weights, _plain(metadata))
        named = {}
        for name, layer in layers.items():
            named[f"transformer.{name}.lora_A.weight"] = layer["down"].contiguous()
            named[f"transformer.{name}.lora_B.weight"] = layer["up"].contiguous()
        self.transformer.load_lora_adapter(
            named,
            adapter_name=adapter_name,
            hotswap=hotswap,
            low_cpu_mem_usage=low_cpu_mem_usage,
            _pipeline=self,
        )

    @classmethod
    def save_lora_weights(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        save_directory: str | Path,
        transformer_lora_layers: Mapping[str, Tensor],
        is_main_process: bool = True,
        weight_name: str | None = None,
        transformer_lora_adapter_metadata: dict[str, Any] | None = None,
    ) -> None:
        """Write the weights of an adapter to a safetensors file in a folder.

        Args:
            save_directory: Folder.
            transformer_lora_layers: Weights by name, such as those that peft's `get_peft_model_state_dict`
                returns.
            is_main_process: Whether this process writes the file.
            weight_name: Name of the file; default: that of diffusers.
            transformer_lora_adapter_metadata: Configuration of the adapter, with its scale.

        Raises:
            UserError: If there are no weights.
        """
        if not transformer_lora_layers:
            raise UserError("transformer_lora_layers must hold the weights of an adapter, but is empty")
        base: Any = super()  # diffusers' type hints forbid the defaults
        base._save_lora_weights(
            save_directory=str(save_directory),
            lora_layers={cls.transformer_name: dict(transformer_lora_layers)},
            lora_metadata={cls.transformer_name: transformer_lora_adapter_metadata},
            is_main_process=is_main_process,
            weight_name=weight_name,
            save_function=None,
            safe_serialization=True,
        )

    def fuse_lora(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        components: Sequence[str] = ("transformer",),
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: list[str] | None = None,
    ) -> None:
        """Add adapters to the weights of the network.

        Args:
            components: Components with adapters.
            lora_scale: Factor of the adapters.
            safe_fusing: Whether to check the sums for NaN first.
            adapter_names: Names of the adapters; default: those that are active.
        """
        require("peft", "lora")
        super().fuse_lora(list(components), lora_scale, safe_fusing, adapter_names)

    def unfuse_lora(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, components: Sequence[str] = ("transformer",)
    ) -> None:
        """Subtract fused adapters from the weights of the network.

        Args:
            components: Components with adapters.
        """
        require("peft", "lora")
        super().unfuse_lora(list(components))


def _plain(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the configuration of an adapter with its keys as peft names them."""
    plain = {}
    for key, value in (metadata or {}).items():
        for root in ROOTS:
            key = key.removeprefix(root)
        plain[key] = value
    return plain
