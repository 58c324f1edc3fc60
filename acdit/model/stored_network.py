"""StoredNetwork: how the network is loaded and saved."""

import json
from pathlib import Path
from typing import Any, Self, cast

from diffusers.configuration_utils import ConfigMixin
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin

from ..utils.construction import one_at_a_time
from ..utils.entry_files import NETWORK_MODULE, write_entry_file
from ..utils.errors import UserError
from ..utils.untrusted import reading
from .stored import check_network
from .weight_files import CONFIG


class StoredNetwork(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """Base class that loads and saves as in diffusers, but checks the files and executes no pickle.

    Threads build and load networks one after the other, see `utils.construction`.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = one_at_a_time(cls.__init__)

    @classmethod
    @one_at_a_time
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Self:
        """Load a network like any diffusers model, but never from a pickle, and only if its files fit.

        Raises:
            UserError: If the files in a folder are damaged.
        """
        options = {"use_safetensors": True, **kwargs}
        folder = Path(pretrained_model_name_or_path) / (kwargs.get("subfolder") or "")
        if not (folder / CONFIG).exists() or not options["use_safetensors"]:
            return super().from_pretrained(pretrained_model_name_or_path, **options)
        check_network(cls, folder, kwargs.get("variant"))
        with reading(folder):
            return super().from_pretrained(pretrained_model_name_or_path, **options)

    def load_lora_adapter(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, pretrained_model_name_or_path_or_dict: Any, prefix: str | None = "transformer", **kwargs: Any
    ) -> None:
        """Load an adapter like any diffusers model, but never from a pickle."""
        if not str(kwargs.get("weight_name") or ".safetensors").endswith(".safetensors"):
            raise UserError(f"weight_name must be a .safetensors file, not {kwargs['weight_name']}")
        kwargs = {"use_safetensors": True, **kwargs}
        super().load_lora_adapter(pretrained_model_name_or_path_or_dict, prefix=cast(str, prefix), **kwargs)

    def to_json_string(self) -> str:
        """Return the configuration as it is saved, without the path that the network was loaded from."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)
        if self._is_public():
            config["auto_map"] = {"AutoModel": f"{NETWORK_MODULE}.{type(self).__name__}"}
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    @classmethod
    def _dict_from_json_file(cls, json_file: Any) -> dict[str, Any]:
        config = super()._dict_from_json_file(json_file)
        config.pop("auto_map", None)  # for AutoModel alone; diffusers would warn of it
        return config

    def save_config(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save the configuration as in diffusers, with the file by which AutoModel finds the class."""
        if self._is_public():
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            write_entry_file(save_directory, NETWORK_MODULE, type(self).__name__)
        super().save_config(save_directory, *args, **kwargs)

    def _is_public(self) -> bool:
        """Return whether the class is one that `acdit` exports, so not a subclass of a caller."""
        return type(self).__module__ == "acdit"
