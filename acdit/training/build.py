"""From a recipe to the things that it names: network, layouts, optimiser, pipeline."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch

from ..data.autoencoders import load_autoencoder
from ..data.dataset import LabelledDataset
from ..data.latents import open_latents
from ..data.opening import open_samples
from ..data.texts import WrappedTexts
from ..data.tokenizers import FILE
from ..diffusion.continuous import DiffusionObjective
from ..diffusion.masked import MaskedObjective
from ..diffusion.masked_schedulers import AncestralScheduler, FirstHittingScheduler
from ..diffusion.schedulers import default_sampler
from ..model.layout import Layout, parse_dims
from ..model.transformer import SIZES, ACDiTTransformer, Size
from ..pipelines.image import ACDiTImagePipeline
from ..pipelines.loading import load_pipeline, pipeline_folder
from ..pipelines.text import ACDiTTextPipeline
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.errors import UserError
from ..utils.randomness import seed_of
from .config import DiffusionConfig, ModelConfig, Recipe
from .lora import add_lora


def open_data(recipe: Recipe) -> tuple[LabelledDataset, Any]:
    """What a run learns from: texts, images or latents; and the autoencoder of the latents, or None."""
    if recipe.autoencoder.model is None:
        return open_samples(recipe.data, seed=recipe.training.seed), None
    vae = load_autoencoder(recipe.autoencoder.model)
    data = open_latents(recipe.latents, recipe.data, recipe.autoencoder, vae, seed=recipe.training.seed)
    return data, vae


def build_layouts(recipe: Recipe, size: Sequence[int]) -> list[Layout]:
    """The layouts that a run trains on, the pipeline's default first.

    Args:
        recipe: of the run.
        size: of its data, (H, W) of images, (F, H, W) of clips and (L,) of texts.

    Raises:
        ValueError: if patches do not tile the image, or blocks the grid.
    """
    if recipe.data.tokens is not None:
        return [Layout(tuple(size), parse_dims(block)) for block in recipe.layout.blocks]
    patch, (*frames, height, width) = recipe.layout.patch, size
    if height % patch or width % patch:
        raise UserError(f"layout.patch must divide the image's edge of {height}; {patch} does not")
    grid = (*frames, height // patch, width // patch)
    patches = (*(1 for _ in frames), patch, patch)
    return [Layout(grid, parse_dims(block), patches) for block in recipe.layout.blocks]


def build_model(
    recipe: Recipe, layout: Layout, data: LabelledDataset, stored: dict[str, Any] | None = None
) -> ACDiTTransformer:
    """The network of a run, with its adapters if it has some.

    It is fresh, from the run's seed, or the one that `init_from` names; for a run that goes on, the one whose
    config is `stored`, with weights that are to be loaded.
    """
    num_classes = len(data.label_names) or None
    if recipe.data.num_classes not in (None, num_classes):
        raise UserError(
            f"data.num_classes must be {num_classes or 0}, as many as {recipe.data.source} holds, "
            f"not {recipe.data.num_classes}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(recipe.training.seed, "initialisation"))
        if stored is not None:
            network = cast(ACDiTTransformer, ACDiTTransformer.from_config(stored))
        elif recipe.training.init_from is not None:
            network = _adapted(recipe.training.init_from, data, layout)
        else:
            values, texts = token_values(data, layout), isinstance(data, WrappedTexts)
            timed = recipe.model.time_conditioning
            network = ACDiTTransformer(
                in_channels=None if texts else values,
                vocab_size=values if texts else None,
                axis_lengths=layout.grid,
                **network_size(recipe.model)._asdict(),
                num_classes=num_classes,
                time_conditioning=not texts if timed is None else timed,
            )
        if recipe.lora.rank:
            add_lora(network, recipe.lora.rank, recipe.lora.alpha, recipe.lora.targets)
            if network.y_embedder is not None and recipe.lora.label_table:
                network.y_embedder.requires_grad_(True)
    return network


def network_size(model: ModelConfig) -> Size:
    """The named size, with the dimensions that a recipe names itself."""
    named = {key: getattr(model, key) for key in Size._fields}
    return SIZES[model.size]._replace(**{key: value for key, value in named.items() if value is not None})


def token_values(data: LabelledDataset, layout: Layout) -> int:
    """Values of a token: channels and patch elements, or of texts the ids that it may have, with the mask."""
    if isinstance(data, WrappedTexts):
        return data.tokenizer.vocab_size
    return data.channels * layout.patch_elements


def check_tokens(source: str, config: Mapping[str, Any], makes: int) -> None:
    """Raise UserError if the network of `init_from`, by its config, has other tokens than a recipe makes."""
    has = config["in_channels"] or config["vocab_size"]
    if has != makes:
        raise UserError(
            f"training.init_from {source} has tokens of {has} values, this recipe makes {makes}: "
            "change layout.patch, data.channels or data.tokenizer"
        )


def _adapted(source: str, data: LabelledDataset, layout: Layout) -> ACDiTTransformer:
    """The network of a trained pipeline, with a new class table where the classes differ in number."""
    pipeline, num_classes = load_pipeline(source), len(data.label_names) or None
    trained = pipeline.transformer
    check_tokens(source, trained.config, token_values(data, layout))
    if isinstance(data, WrappedTexts) and pipeline.tokenizer.digest != data.tokenizer.digest:
        raise UserError(
            f"training.init_from {source} has another tokeniser: name its own, data.tokenizer "
            f"{pipeline_folder(source) / FILE}"
        )
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


def build_objective(recipe: Recipe, data: LabelledDataset, *, plain: bool = False) -> Any:
    """The objective of a run.

    Args:
        recipe: of the run.
        data: that it learns from.
        plain: without what training alone does, such as weights of errors, so that runs can be compared.
    """
    asked = recipe.diffusion
    if plain:
        asked = DiffusionConfig(
            asked.prediction, asked.timesteps, asked.timestep_location, schedule=asked.schedule
        )
    if isinstance(data, WrappedTexts):
        return MaskedObjective(data.tokenizer.mask, asked.schedule, asked.times, asked.label_dropout)
    return DiffusionObjective(
        asked.prediction,
        asked.timesteps,
        asked.label_dropout,
        context_noise=asked.context_noise,
        timestep_location=asked.timestep_location,
        min_snr=asked.min_snr,
    )


def build_pipeline(
    recipe: Recipe, model: ACDiTTransformer, layout: Layout, data: LabelledDataset, vae: Any
) -> Any:
    """The pipeline that a run samples with and exports, around a copy of the network."""
    if isinstance(data, WrappedTexts):
        sampler = AncestralScheduler if model.config["time_conditioning"] else FirstHittingScheduler
        return ACDiTTextPipeline(
            transformer=copy.deepcopy(model).eval(),
            scheduler=sampler(mask_token=data.tokenizer.mask, schedule=recipe.diffusion.schedule),
            tokenizer=data.tokenizer,
            grid=layout.grid,
            block=layout.block,
            num_inference_steps=recipe.sampling.steps,
        )
    kind = ACDiTImagePipeline if layout.axes == 2 else ACDiTVideoPipeline
    return kind(
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
