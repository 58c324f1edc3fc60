"""StoredPipeline: the base class of all pipelines; how they are loaded and saved."""

import inspect
import json
from abc import abstractmethod
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Self, cast

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from ..model.layout import Layout
from ..utils.construction import CONSTRUCTION
from ..utils.entry_files import PIPELINE_MODULE, write_entry_file
from ..utils.errors import UserError
from ..utils.finite import check_finite_modules
from ..utils.untrusted import read_object, reading
from .components import check_components
from .folders import folder_modality, pipeline_class_name
from .hub import local_folder
from .stored import INDEX, check_parts

FORMAT_VERSION = 1
AS_THEY_ARE: Any = object()  # in place of a dtype to convert the parts to


class StoredPipeline(DiffusionPipeline):
    """Base class of pipelines that load and save as in diffusers, but check the files and execute no pickle.

    Attributes:
        network_name: name of the component that is the network.
    """

    network_name = "transformer"

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Self:
        """Load a pipeline as in diffusers, by default without pickles and without code of the model.

        Raises:
            UserError: if the files of the model are damaged or cannot be had, or if weights are not finite.
        """
        folder = Path(local_folder(pretrained_model_name_or_path, kwargs))
        check_parts(folder, read_object(folder / INDEX), given=kwargs, variant=kwargs.get("variant"))
        modality = folder_modality(folder, with_network=cls.network_name not in kwargs)
        if modality.network[0] != cls.network_name:
            raise UserError(
                f"{folder} is a model of {modality.many}: load it with {modality.pipeline_name}, not with "
                f"{cls.__name__}"
            )
        cls._add_parts(folder, kwargs)
        options = {"use_safetensors": True, **kwargs, "trust_remote_code": False}
        try:
            with CONSTRUCTION, reading(folder):
                pipeline = super().from_pretrained(folder, **options)
        except UserError as error:
            if str(folder) in str(error):
                raise
            raise UserError(f"{folder} cannot be loaded: {error}") from error
        check_components(folder, pipeline.components, given=kwargs)
        return pipeline

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save the pipeline as in diffusers.

        Raises:
            UserError: if weights are not finite, or adapters are not merged; nothing is written then.
        """
        for name, part in self.components.items():
            if getattr(part, "peft_config", None):
                raise UserError(
                    f"the {name} has adapters, which a pipeline's folder does not hold: merge them with "
                    "fuse_lora() and unload_lora_weights(), or save them with save_lora_weights()"
                )
        check_finite_modules(
            self.components.items(),
            f"the weights of the pipeline for {save_directory}",
            "it is not written; train again from an earlier checkpoint, or with a lower learning rate",
        )
        self._save_parts(Path(save_directory))
        super().save_pretrained(save_directory, *args, **kwargs)

    def _save_parts(self, folder: Path) -> None:
        """Save parts to a folder that diffusers does not save."""

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Self:
        """Return a pipeline with the parts and settings of another one, as in diffusers, or given ones.

        The vae and the tokenizer are taken over whatever their class. All parts keep their precision, unless
        `dtype` is given, which converts them in both pipelines.
        """
        taken = inspect.signature(cls.__init__).parameters
        parts = {**pipeline.components, "tokenizer": getattr(pipeline, "tokenizer", None)}
        given = {name: part for name, part in parts.items() if name in taken and part is not None}
        if kwargs.get("dtype") is None and kwargs.get("torch_dtype") is None:
            kwargs["dtype"] = AS_THEY_ARE  # otherwise diffusers converts them, which are shared, to float32
        return cast(Self, super().from_pipe(pipeline, **given | kwargs))

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move or convert the pipeline as in diffusers."""
        return self if kwargs.get("dtype") is AS_THEY_ARE else super().to(*args, **kwargs)

    @classmethod
    def _add_parts(cls, folder: Path, kwargs: dict[str, Any]) -> None:
        """Add parts to the arguments of `from_pretrained` that diffusers does not load."""

    @classmethod
    def _dict_from_json_file(cls, json_file: Any) -> dict[str, Any]:
        # diffusers would look for code in the folder, which the classes of this package do not need
        config = super()._dict_from_json_file(json_file)
        return config | {"_class_name": pipeline_class_name(config)} if "_class_name" in config else config

    def to_json_string(self) -> str:
        """Return the configuration as it is saved, so that diffusers finds the class through pipeline.py."""
        config = json.loads(super().to_json_string())
        config.pop("_name_or_path", None)  # the folder that the pipeline was loaded from
        if self._is_public():
            config["_class_name"] = [PIPELINE_MODULE, type(self).__name__]
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    def save_config(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Save model_index.json as in diffusers, with pipeline.py beside it."""
        if self._is_public():
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            write_entry_file(save_directory, PIPELINE_MODULE, type(self).__name__)
        super().save_config(save_directory, *args, **kwargs)

    def _is_public(self) -> bool:
        """Return whether `from acdit import ...` finds the class."""
        return getattr(import_module("acdit"), type(self).__name__, None) is type(self)

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the pipeline; the subclasses define the arguments."""

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """Return the default layout."""

    def _check_layout(self, **axes: Sequence[int] | None) -> None:
        """Raise UserError if a part of the layout is missing.

        `components` holds none of it, so that a pipeline built from them alone would have another layout.
        """
        missing = [name for name, lengths in axes.items() if lengths is None]
        if missing:
            cls = type(self).__name__
            raise UserError(
                f"{cls} needs {', '.join(missing)}; {cls}.from_pipe(pipeline) takes the layout and all other "
                "settings of another pipeline"
            )

    @property
    def data_source(self) -> str | None:
        """Return the name of the data set that the network was trained on; None if it is not recorded."""
        return self.config.get("data_source")

    @property
    def label_names(self) -> dict[int, str]:
        """Return the class names by class id, in order; empty for a model without classes."""
        return {}

    @property
    def class_names(self) -> list[str | None]:
        """Return the name of every class of the network, None where it is not recorded."""
        config, names = getattr(self, self.network_name).config, self.label_names
        count = config.get("num_labels") or config.get("num_classes") or 0
        return [names.get(index) for index in range(count)]


def check_format(version: int) -> None:
    """Raise UserError unless this version of the library can read a pipeline with this format version."""
    if version != FORMAT_VERSION:
        raise UserError(
            f"this pipeline has format version {version}, and this acdit reads {FORMAT_VERSION}: upgrade "
            "acdit"
        )
