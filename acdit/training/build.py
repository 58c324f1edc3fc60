"""Build what a recipe describes: data, layouts and network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch

from ..data.autoencoders import load_autoencoder
from ..data.dataset import LabelledDataset
from ..data.identity import describe_rows, named_classes, new_classes
from ..data.latents import open_latents
from ..data.opening import open_samples
from ..data.tokenizers import FILE
from ..model.layout import Layout, dims, parse_dims
from ..model.sizes import SIZES, Size
from ..model.token_head import HEAD_LAYERS, CausalTokenDiffusion, GeneratorNetwork
from ..model.transformer import ACDiTTransformer
from ..pipelines.folders import network_class_name, pipeline_folder
from ..pipelines.loading import load_pipeline
from ..utils.errors import UserError
from ..utils.randomness import seed_of
from ..utils.references import load_object
from .class_table import TABLE, carry_rows
from .config import ModelConfig, Recipe
from .learner import TrainedNetwork
from .lora import add_lora

NETWORKS: dict[str, type[GeneratorNetwork]] = {
    network.__name__: network for network in (ACDiTTransformer, CausalTokenDiffusion)
}


def open_data(recipe: Recipe) -> tuple[LabelledDataset, Any]:
    """Open the training data of a run: texts, images or latents.

    Returns:
        The data, and the autoencoder of the latents or None for other data.
    """
    if recipe.autoencoder.model is None:
        return open_samples(recipe.data, seed=recipe.training.seed), None
    vae = load_autoencoder(recipe.autoencoder.model)
    data = open_latents(recipe.latents, recipe.data, recipe.autoencoder, vae, seed=recipe.training.seed)
    return data, vae


def build_layouts(recipe: Recipe, size: Sequence[int]) -> list[Layout]:
    """Build the layouts that a run trains on, starting with the pipeline's default.

    Args:
        recipe: Recipe of the run.
        size: Size of the data: (H, W) for images, (F, H, W) for clips and (L,) for texts.

    Raises:
        ValueError: If the patches do not tile the image, or the blocks do not tile the grid.
    """
    patch, patch_axes = recipe.layout.patch, recipe.modality.patch_axes
    patches = (*[1] * (len(size) - patch_axes), *[patch] * patch_axes)
    if any(length % side for length, side in zip(size, patches, strict=True)):
        raise UserError(f"layout.patch must divide the side of the image, {size[-1]}; {patch} does not")
    grid = tuple(length // side for length, side in zip(size, patches, strict=True))
    layouts = [Layout(grid, parse_dims(block), patches) for block in recipe.layout.blocks]
    if recipe.classifier.timestep is not None and any(layout.num_blocks != 1 for layout in layouts):
        raise UserError(
            f"classifier.timestep {recipe.classifier.timestep:g} noises the image as one block: set "
            f"layout.blocks to {dims(grid)}, not {','.join(recipe.layout.blocks)}"
        )
    return layouts


def build_model(
    recipe: Recipe,
    layout: Layout,
    data: LabelledDataset,
    stored: dict[str, Any] | None = None,
    report: Callable[[str], None] | None = None,
) -> TrainedNetwork:
    """Build the network of a run with the function that its modality names.

    A new network is initialised from the run's seed, or loaded from `init_from` if the recipe names it. For a
    resumed run, the network is built from the config `stored`, and its weights are loaded later.

    Args:
        recipe: Recipe of the run.
        layout: Layout of the network.
        data: Data that the network is trained on.
        stored: Config of the network of a resumed run.
        report: Function that is called with a description of the class rows that were mapped, if any were.

    Raises:
        UserError: If the recipe does not fit the data or `init_from`.
    """
    num_classes = len(data.label_names) or None
    if recipe.data.num_classes not in (None, num_classes):
        raise UserError(
            f"data.num_classes must be {num_classes or 0}, the number of classes of {recipe.data.source}, "
            f"not {recipe.data.num_classes}"
        )
    build = cast(Callable[..., TrainedNetwork], load_object(recipe.modality.build_network))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(recipe.training.seed, "initialisation"))
        return build(recipe, layout, data, stored, report)


def build_generator(
    recipe: Recipe,
    layout: Layout,
    data: LabelledDataset,
    stored: dict[str, Any] | None = None,
    report: Callable[[str], None] | None = None,
) -> GeneratorNetwork:
    """Build the network of a generator, with LoRA adapters if the recipe sets a rank; see `build_model`."""
    num_classes = len(data.label_names) or None
    network_class = NETWORKS[recipe.network_class]
    if stored is not None:
        network = cast(GeneratorNetwork, network_class.from_config(stored))
    elif recipe.training.init_from is not None:
        network = _load_initial_network(recipe, recipe.training.init_from, data, layout, report)
    else:
        network = network_class(
            axis_lengths=layout.grid,
            num_classes=num_classes,
            **network_config(recipe, token_values(data, layout)),
        )
    if recipe.lora.rank:
        add_lora(cast(ACDiTTransformer, network), recipe.lora.rank, recipe.lora.alpha, recipe.lora.targets)
        if network.y_embedder is not None and recipe.lora.label_table:
            network.y_embedder.requires_grad_(True)
    return network


def network_size(model: ModelConfig) -> Size:
    """Return the dimensions of the named size, replaced where the recipe sets its own."""
    overrides = {key: getattr(model, key) for key in Size._fields}
    return SIZES[model.size]._replace(**{key: value for key, value in overrides.items() if value is not None})


def network_config(recipe: Recipe, values: int) -> dict[str, Any]:
    """Return the arguments of a new network that depend only on the recipe and the values of a token.

    Args:
        recipe: Recipe of the run.
        values: Number of values of a token, see `token_values`.
    """
    size = network_size(recipe.model)._asdict()
    if recipe.model.kind == "token-head":
        head = {"head_layers": recipe.model.head_layers or HEAD_LAYERS, "head_size": recipe.model.head_size}
        return {"in_channels": values, **size, **head}
    return {
        "in_channels": None,
        "vocab_size": None,
        recipe.modality.values_key: values,
        **size,
        "time_conditioning": recipe.time_conditioning,
        "positions": recipe.model.positions,
        "context": recipe.model.context,
    }


def token_values(data: LabelledDataset, layout: Layout) -> int:
    """Return the number of values of a token: channels times patch elements, or the number of token ids."""
    return data.values * layout.patch_elements


def check_tokens(source: str, config: Mapping[str, Any], values: int) -> None:
    """Raise UserError if the network of `init_from` has tokens of another size than the recipe.

    Args:
        source: Value of `training.init_from`.
        config: Config of that network.
        values: Number of values of a token of the recipe.
    """
    network_values = config["in_channels"] or config["vocab_size"]
    if network_values != values:
        raise UserError(
            f"training.init_from {source} has tokens of {network_values} values, but those of this recipe "
            f"have {values}: change layout.patch, data.channels or data.tokenizer"
        )


def check_kind(recipe: Recipe, source: str) -> None:
    """Raise UserError if the network of `init_from` is of another kind than `model.kind`.

    Args:
        recipe: Recipe of the run.
        source: Value of `training.init_from`.
    """
    kinds = {"ACDiTTransformer": "acdit", "CausalTokenDiffusion": "token-head"}
    kind = kinds.get(network_class_name(pipeline_folder(source)), recipe.model.kind)
    if kind != recipe.model.kind:
        raise UserError(
            f"training.init_from {source} is a model of model.kind {kind}, not {recipe.model.kind}: set "
            f"model.kind {kind}, or choose another model"
        )


def check_context(source: str, config: Mapping[str, Any], context: str) -> None:
    """Raise UserError if the network of `init_from` has another context than the recipe's objective.

    Args:
        source: Value of `training.init_from`.
        config: Config of that network.
        context: Value of `model.context`.
    """
    own = config.get("context", "clean")  # earlier versions did not store it
    if own != context:
        raise UserError(
            f"training.init_from {source} has a network with {own} context: set model.context to {own}, "
            f"not {context}"
        )


def _load_initial_network(
    recipe: Recipe,
    source: str,
    data: LabelledDataset,
    layout: Layout,
    report: Callable[[str], None] | None,
) -> GeneratorNetwork:
    """Return the network of a trained pipeline, with the rows of its class table mapped by name."""
    check_kind(recipe, source)
    pipeline, num_classes = load_pipeline(source), len(data.label_names) or None
    trained: GeneratorNetwork = pipeline.transformer
    check_tokens(source, trained.config, token_values(data, layout))
    check_context(source, trained.config, recipe.model.context)
    if pipeline.tokenizer_digest != data.tokenizer_digest:
        raise UserError(
            f"training.init_from {source} was trained with another tokenizer: set data.tokenizer to "
            f"{pipeline_folder(source) / FILE}"
        )
    names = pipeline.class_names
    if names == list(data.label_names):
        return trained
    added = new_classes(names, data.label_names)
    if recipe.lora.rank and not recipe.lora.label_table and added:
        raise UserError(
            f"lora.label_table is false, but training.init_from {source} does not have these classes: "
            f"{named_classes(added)}; set lora.label_table to true"
        )
    config = {**trained.config, "num_classes": num_classes}
    model = cast(GeneratorNetwork, type(trained).from_config(config))
    state = trained.state_dict()
    old_table = state.pop(TABLE, None)
    model.load_state_dict(state, strict=False)  # without the class table
    if model.y_embedder is not None and old_table is not None:
        carry_rows(model.y_embedder.embedding_table.weight, old_table, names, data.label_names)
    if report is not None:
        report(f"training.init_from {source}: {describe_rows(names, data.label_names)}")
    return model
