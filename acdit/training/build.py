"""From a recipe to the things that it names: network, layouts, optimiser, pipeline."""

import copy
from typing import Any, cast

import torch
from diffusers.training_utils import EMAModel

from ..autoencoders import load_autoencoder
from ..data.images import ImageDataset, open_images
from ..data.latents import open_latents
from ..diffusion import default_sampler
from ..errors import UserError
from ..layout import Layout, parse_dims
from ..pipelines.image import ACDiTImagePipeline
from ..pipelines.loading import load_pipeline
from ..randomness import seed_of
from ..transformer import SIZES, ACDiTTransformer, Size
from .config import ModelConfig, OptimizerConfig, Recipe


def open_data(recipe: Recipe) -> tuple[ImageDataset, Any]:
    """What a run learns from, images or latents; and the autoencoder of the latents, or None."""
    if recipe.autoencoder.model is None:
        return open_images(recipe.data, seed=recipe.training.seed), None
    vae = load_autoencoder(recipe.autoencoder.model)
    return open_latents(recipe, vae), vae


def build_layouts(recipe: Recipe, image_size: int) -> list[Layout]:
    """The layouts that a run trains on, the pipeline's default first.

    Raises:
        ValueError: if patches do not tile the image, or blocks the grid.
    """
    patch, frames = recipe.layout.patch, recipe.data.frames
    if image_size % patch:
        raise UserError(f"layout.patch must divide the image's edge of {image_size}; {patch} does not")
    grid, patches = (image_size // patch,) * 2, (patch, patch)
    if frames is not None:
        grid, patches = (frames, *grid), (1, *patches)
    return [Layout(grid, parse_dims(block), patches) for block in recipe.layout.blocks]


def check_trainable(recipe: Recipe) -> None:
    """Raise UserError for a recipe that can only be planned."""
    if recipe.data.frames is not None:
        raise UserError(
            f"video (data.frames {recipe.data.frames}) cannot be trained yet, only planned: acdit plan"
        )


def build_model(recipe: Recipe, layout: Layout, data: ImageDataset) -> ACDiTTransformer:
    """The network that a run starts with: fresh, from the run's seed, or the one that `init_from` names."""
    num_classes = len(data.label_names)
    if recipe.data.num_classes not in (None, num_classes):
        raise UserError(
            f"data.num_classes must be {num_classes}, as many as {recipe.data.source} holds, "
            f"not {recipe.data.num_classes}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(recipe.training.seed, "initialisation"))
        if recipe.training.init_from is not None:
            return _adapted(recipe.training.init_from, layout, data.channels, num_classes)
        return ACDiTTransformer(
            in_channels=data.channels * layout.patch_elements,
            axis_lengths=layout.grid,
            **network_size(recipe.model)._asdict(),
            num_classes=num_classes,
        )


def network_size(model: ModelConfig) -> Size:
    """The named size, with the dimensions that a recipe names itself."""
    named = {key: getattr(model, key) for key in Size._fields}
    return SIZES[model.size]._replace(**{key: value for key, value in named.items() if value is not None})


def build_optimizer(network: ACDiTTransformer, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW over all parameters (Appendix B)."""
    return torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )


def build_average(network: ACDiTTransformer, config: OptimizerConfig) -> EMAModel:
    """The moving average of the weights, which starts with a copy of them."""
    return EMAModel(
        network.parameters(),
        decay=config.ema_decay,
        min_decay=0.0 if config.ema_warmup else config.ema_decay,
        foreach=True,
    )


def check_tokens(source: str, has: int, makes: int) -> None:
    """Raise UserError if the network of `init_from` has other tokens than the recipe makes."""
    if has != makes:
        raise UserError(
            f"training.init_from {source} has tokens of {has} values, this recipe makes {makes}: "
            "change layout.patch or data.channels"
        )


def _adapted(source: str, layout: Layout, channels: int, num_classes: int) -> ACDiTTransformer:
    """The network of a trained pipeline, with a new class table where the classes differ in number."""
    trained = load_pipeline(source).transformer
    wanted = channels * layout.patch_elements
    check_tokens(source, trained.config["in_channels"], wanted)
    if trained.config["num_classes"] == num_classes:
        return trained
    model = cast(
        ACDiTTransformer, ACDiTTransformer.from_config({**trained.config, "num_classes": num_classes})
    )
    kept = {
        name: tensor for name, tensor in trained.state_dict().items() if not name.startswith("y_embedder.")
    }
    model.load_state_dict(kept, strict=False)
    return model


def build_pipeline(
    recipe: Recipe, model: ACDiTTransformer, layout: Layout, data: ImageDataset, vae: Any
) -> ACDiTImagePipeline:
    """The pipeline that a run samples with and exports, around a copy of the network."""
    return ACDiTImagePipeline(
        transformer=copy.deepcopy(model).eval(),
        scheduler=default_sampler(recipe.diffusion.prediction),
        vae=vae,
        grid=layout.grid,
        block=layout.block,
        patch=layout.patch,
        id2label=dict(enumerate(data.label_names)),
        num_inference_steps=recipe.sampling.steps,
        guidance_scale=recipe.sampling.guidance_scale,
    )
