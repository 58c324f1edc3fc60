"""Costs of the network of a run, for its plan and its log: one class for generators, one for classifiers."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from ..model.adapter_counts import (
    AdapterDimensions,
    adapter_parameters,
    adapter_training_flops,
    label_parameters,
)
from ..model.classifier_flops import (
    ClassifierDimensions,
    classifier_activation_bytes,
    classifier_forward_flops,
    classifier_parameters,
    classifier_training_flops,
    head_parameters,
)
from ..model.flops import Dimensions
from ..model.generator_counts import generator_counts
from ..model.layout import Layout
from ..model.stored import read_network_config
from ..pipelines.folders import folder_modality, network_class_name, pipeline_folder
from ..utils.errors import UserError
from .build import check_context, check_kind, check_tokens, network_config
from .classifier_network import check_classes, check_source, check_start, head_settings, new_backbone
from .config import Recipe
from .inspection import Data

MLP_RATIO = 4


class Costs(Protocol):
    """Costs of a network, built from a recipe and the network's config.

    Attributes:
        network: Dimensions of the network.
        parameters: Number of parameters.
        trained: Number of parameters that are trained.
    """

    network: Dimensions
    parameters: int
    trained: int

    def __init__(self, recipe: Recipe, config: Mapping[str, Any]) -> None: ...

    @staticmethod
    def planned(recipe: Recipe, data: Data) -> dict[str, Any]:
        """Return the config of the network that a recipe trains on data, without building it."""
        ...

    def network_tokens(self, layout: Layout) -> int:
        """Return the number of tokens of a sample that pass through the network."""
        ...

    def forward_flops(self, layout: Layout) -> int:
        """Return the FLOPs of a forward of one sample."""
        ...

    def training_flops(self, layout: Layout, *, checkpointing: bool) -> float:
        """Return the FLOPs of forward and backward of one sample."""
        ...

    def activation_bytes(self, layout: Layout, *, half: bool) -> int:
        """Return the bytes of activations of one sample that are kept from the forward to the backward."""
        ...


class GeneratorCosts:
    """Costs of a generator; see `Costs`."""

    def __init__(self, recipe: Recipe, config: Mapping[str, Any]) -> None:
        self.recipe, self._counts = recipe, generator_counts(config)
        self.network = self._counts.network
        self.parameters = self.trained = self._counts.parameters
        self._adapters = None
        if recipe.lora.rank:
            lora = recipe.lora
            self._adapters = AdapterDimensions.of(
                self.network, rank=lora.rank, targets=lora.targets, label_table=lora.label_table
            )
            added = adapter_parameters(self.network, self._adapters)
            self.parameters += added
            self.trained = added + label_parameters(self.network, self._adapters)

    @staticmethod
    def planned(recipe: Recipe, data: Data) -> dict[str, Any]:
        """Return the config of the network, from the section `model` or from `init_from`."""
        values, source = _token_values(recipe, data), recipe.training.init_from
        if source is None:
            return network_config(recipe, values) | {"mlp_ratio": MLP_RATIO, "num_classes": data.num_classes}
        folder = pipeline_folder(source)
        modality = folder_modality(folder)
        check_kind(recipe, source)
        config = read_network_config(folder / modality.network[0], network_class_name(folder))
        check_tokens(source, config, values)
        check_context(source, config, recipe.model.context)
        return config | {"num_classes": data.num_classes}

    def network_tokens(self, layout: Layout) -> int:
        """Return the number of clean and noised tokens."""
        diffusion = self.recipe.diffusion
        return self._counts.network_tokens(layout, draws=diffusion.draws, views=diffusion.views)

    def forward_flops(self, layout: Layout) -> int:
        """Return the FLOPs of a forward with all blocks noised."""
        return self._counts.forward_flops(layout)

    def training_flops(self, layout: Layout, *, checkpointing: bool) -> float:
        """Return the FLOPs of forward and backward."""
        diffusion = self.recipe.diffusion
        count = self._counts.training_flops
        if self._adapters is not None:
            count = partial(adapter_training_flops, self.network, adapters=self._adapters)
        return count(layout, draws=diffusion.draws, views=diffusion.views, checkpointing=checkpointing)

    def activation_bytes(self, layout: Layout, *, half: bool) -> int:
        """Return the bytes of activations."""
        diffusion = self.recipe.diffusion
        return self._counts.activation_bytes(
            layout,
            half=half,
            draws=diffusion.draws,
            views=diffusion.views,
            checkpointing=self.recipe.training.gradient_checkpointing,
        )


class ClassifierCosts:
    """Costs of a classifier, or of a frozen network with probes; see `Costs`."""

    def __init__(self, recipe: Recipe, config: Mapping[str, Any]) -> None:
        self.recipe = recipe
        self._model = ClassifierDimensions.of(config, frozen=recipe.classifier.probe != "none")
        self.network = self._model.shown
        self.parameters = classifier_parameters(self._model)
        self.trained = head_parameters(self._model) if self._model.frozen else self.parameters

    @staticmethod
    def planned(recipe: Recipe, data: Data) -> dict[str, Any]:
        """Return the config of the network, from the section `model` or from `init_from`."""
        values, source = _token_values(recipe, data), recipe.training.init_from
        classes = data.num_classes
        if classes is None:
            raise UserError(
                f"the classes of {recipe.data.source} cannot be counted without reading it: set "
                "data.num_classes"
            )
        check_classes([""] if classes == 1 else [str(label) for label in range(classes)], recipe.data.source)
        trained: dict[str, Any] = {"mlp_ratio": MLP_RATIO, "num_classes": None, "null_label": False}
        if source is None:
            trained |= new_backbone(recipe, values)
        else:
            check_source(source)
            folder = pipeline_folder(source)
            modality = folder_modality(folder)
            config = read_network_config(folder / modality.network[0], modality.network[1])
            check_start(recipe, source, config)
            trained |= config
            check_tokens(source, {"vocab_size": None, **trained}, values)
            if trained.get("layers"):  # of a classifier, which has no layers above the highest head
                trained["num_layers"] = max(trained["layers"])
        timed = recipe.classifier.timestep is not None
        had_classes = trained["num_classes"] is not None or trained["null_label"]
        heads: dict[str, Any] = {"layers": None} | head_settings(recipe, trained)
        return trained | {"num_labels": classes, "null_label": timed and had_classes} | heads

    def network_tokens(self, layout: Layout) -> int:
        """Return the number of tokens of a sample."""
        return layout.num_tokens

    def forward_flops(self, layout: Layout) -> int:
        """Return the FLOPs of a forward."""
        return classifier_forward_flops(self._model, layout)

    def training_flops(self, layout: Layout, *, checkpointing: bool) -> float:
        """Return the FLOPs of forward and backward."""
        return classifier_training_flops(self._model, layout, checkpointing=checkpointing)

    def activation_bytes(self, layout: Layout, *, half: bool) -> int:
        """Return the bytes of activations."""
        checkpointing = self.recipe.training.gradient_checkpointing
        return classifier_activation_bytes(self._model, layout, half=half, checkpointing=checkpointing)


def _token_values(recipe: Recipe, data: Data) -> int:
    """Return the number of values of a token."""
    return data.values * recipe.layout.patch**recipe.modality.patch_axes
