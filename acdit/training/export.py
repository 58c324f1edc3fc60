"""Build the pipeline that a training run samples with and exports, with one function for each modality."""

import copy
from collections.abc import Callable
from typing import Any, cast

from ..data.dataset import LabelledDataset
from ..data.texts import WrappedTexts
from ..diffusion.schedulers import SCHEDULERS, SOLVER_TARGETS, Solver
from ..diffusion.solver_checks import check_solver
from ..model.classifier import ACDiTForImageClassification
from ..model.layout import Layout
from ..model.token_head import GeneratorNetwork
from ..model.transformer import ACDiTTransformer
from ..pipelines.classification import ACDiTImageClassificationPipeline
from ..pipelines.image import ACDiTImagePipeline
from ..pipelines.stored_pipeline import StoredPipeline
from ..pipelines.text import ACDiTTextPipeline
from ..pipelines.video import ACDiTVideoPipeline
from ..utils.errors import UserError
from ..utils.references import load_object
from ..utils.settings import nearest
from .config import Recipe
from .learner import TrainedNetwork

Export = Callable[[Recipe, Any, Layout, LabelledDataset, Any], StoredPipeline]


def build_pipeline(
    recipe: Recipe, model: TrainedNetwork, layout: Layout, data: LabelledDataset, vae: Any
) -> StoredPipeline:
    """Build the pipeline that a run samples with and exports, around a copy of the network.

    Args:
        recipe: Recipe of the run.
        model: Network to copy.
        layout: Default layout of the pipeline.
        data: Data set that the network was trained on.
        vae: Autoencoder of the latents, or None.
    """
    export = cast(Export, load_object(recipe.modality.export))
    return export(recipe, copy.deepcopy(model).eval(), layout, data, vae)


def check_scheduler(recipe: Recipe, time_conditioning: bool | None = None) -> str | None:
    """Return the name of the scheduler that a recipe sets, or None.

    Args:
        recipe: Recipe of the run.
        time_conditioning: Whether the network takes timesteps; None = as in the recipe, unless its network
            comes from `training.init_from` and is not known yet.

    Raises:
        UserError: If the recipe's modality has no scheduler of that name, or it does not fit the prediction
            or the time conditioning.
    """
    name = recipe.sampling.scheduler
    if name is None:
        return None
    schedulers = SCHEDULERS[recipe.modality.noise]
    if name not in schedulers:
        raise UserError(
            f"sampling.scheduler of {recipe.modality.samples} must be one of {', '.join(schedulers)}, "
            f"not {name!r}; did you mean {nearest(name, schedulers)[0]}?"
        )
    if recipe.modality.noise == "continuous":
        prediction = recipe.diffusion.prediction
        network = {"prediction_type": SOLVER_TARGETS[prediction]}
        check_solver(schedulers[name](prediction=prediction), network, bounds=(0.0, 0.0))
    elif recipe.modality.noise == "masked":
        timed = time_conditioning
        if timed is None and recipe.training.init_from is None:
            timed = recipe.time_conditioning
        if timed is not None:
            network = {"vocab_size": 1, "time_conditioning": timed}  # of which the mask is the only id
            check_solver(schedulers[name](mask_token=0, schedule=recipe.diffusion.schedule), network)
    return name


def image_pipeline(
    recipe: Recipe, model: GeneratorNetwork, layout: Layout, data: LabelledDataset, vae: Any
) -> ACDiTImagePipeline:
    """Build an image pipeline; see `build_pipeline`."""
    return ACDiTImagePipeline(**_components(recipe, model, layout, data, vae))


def video_pipeline(
    recipe: Recipe, model: GeneratorNetwork, layout: Layout, data: LabelledDataset, vae: Any
) -> ACDiTVideoPipeline:
    """Build a video pipeline; see `build_pipeline`."""
    return ACDiTVideoPipeline(**_components(recipe, model, layout, data, vae))


def text_pipeline(
    recipe: Recipe, model: ACDiTTransformer, layout: Layout, data: LabelledDataset, vae: Any
) -> ACDiTTextPipeline:
    """Build a text pipeline; see `build_pipeline`."""
    del vae  # texts have no autoencoder
    tokenizer = cast(WrappedTexts, data).tokenizer
    if model.config["time_conditioning"]:
        model.register_to_config(schedule=recipe.diffusion.schedule)
    default = "ancestral" if model.config["time_conditioning"] else "first-hitting"
    scheduler = _scheduler(recipe, default, mask_token=tokenizer.mask, schedule=recipe.diffusion.schedule)
    return ACDiTTextPipeline(
        transformer=model,
        scheduler=scheduler,
        tokenizer=tokenizer,
        grid=layout.grid,
        block=layout.block,
        num_inference_steps=recipe.sampling.steps,
        data_source=data.recorded_name,
    )


def classification_pipeline(
    recipe: Recipe, model: ACDiTForImageClassification, layout: Layout, data: LabelledDataset, vae: Any
) -> ACDiTImageClassificationPipeline:
    """Build a classification pipeline; see `build_pipeline`."""
    del recipe  # all that it says is in the network
    return ACDiTImageClassificationPipeline(
        classifier=model,
        vae=vae,
        grid=layout.grid,
        block=layout.block,
        patch=layout.patch,
        id2label=dict(enumerate(data.label_names)),
        data_source=data.recorded_name,
    )


def _components(
    recipe: Recipe, model: GeneratorNetwork, layout: Layout, data: LabelledDataset, vae: Any
) -> dict[str, Any]:
    """Return the arguments that image and video pipelines share."""
    model.register_to_config(prediction_type=SOLVER_TARGETS[recipe.diffusion.prediction])
    return {
        "transformer": model,
        "scheduler": _scheduler(recipe, "dpmsolver++", prediction=recipe.diffusion.prediction),
        "vae": vae,
        "grid": layout.grid,
        "block": layout.block,
        "patch": layout.patch,
        "id2label": dict(enumerate(data.label_names)),
        "num_inference_steps": recipe.sampling.steps,
        "guidance_scale": recipe.sampling.guidance_scale,
        "data_source": data.recorded_name,
    }


def _scheduler(recipe: Recipe, default: str, **process: object) -> Solver:
    """Build the scheduler of a recipe, or the one named `default` if it sets none, for a noise process."""
    return SCHEDULERS[recipe.modality.noise][recipe.sampling.scheduler or default](**process)
