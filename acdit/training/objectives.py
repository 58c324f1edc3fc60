"""Training objectives in the table `OBJECTIVES`, by noise process and name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..data.dataset import LabelledDataset
from ..diffusion.classification import ClassificationObjective
from ..diffusion.continuous import DiffusionObjective
from ..diffusion.masked import MaskedObjective
from ..diffusion.objective import Objective
from ..utils.errors import UserError
from ..utils.settings import nearest
from .classifier_config import ClassifierConfig
from .config import Recipe
from .diffusion_config import DiffusionConfig


def _continuous(config: DiffusionConfig, data: LabelledDataset) -> Objective:
    del data
    return DiffusionObjective(
        config.prediction,
        config.timesteps,
        config.label_dropout,
        context_noise=config.context_noise,
        timestep_location=config.timestep_location,
        min_snr=config.min_snr,
    )


def _masked(config: DiffusionConfig, data: LabelledDataset) -> Objective:
    mask = data.values - 1  # the mask is the last id
    assert config.masks is not None  # `build_objective` replaces the default
    return MaskedObjective(mask, config.schedule, config.times, config.label_dropout, config.masks)


def _classes(config: ClassifierConfig, data: LabelledDataset) -> Objective:
    del data
    frozen = config.probe != "none"  # features of a frozen network are not changed
    return ClassificationObjective(config.label_smoothing, 0.0 if frozen else config.drop_path)


# Functions that build objectives, by noise process and name. They take the section `diffusion` of the recipe,
# or for the process "classes" the section `classifier`, and the data.
OBJECTIVES: dict[str, dict[str, Callable[[Any, LabelledDataset], Objective]]] = {
    "continuous": {"diffusion": _continuous},
    "masked": {"diffusion": _masked},
    "classes": {"classification": _classes, "probes": _classes},
}


def build_objective(
    recipe: Recipe, data: LabelledDataset, time_conditioning: bool, *, plain: bool = False
) -> Objective:
    """Build the objective of a run: the one that the recipe names, or else that of its modality.

    Args:
        recipe: Recipe of the run.
        data: Data set that the run is trained on.
        time_conditioning: Whether the network takes timesteps.
        plain: Whether to leave out options that only training uses, such as loss weights, so that runs can be
            compared. The masks of texts are then counted, unless the network takes timesteps.

    Raises:
        UserError: If the modality has no such objective, or the objective does not fit the network.
    """
    build = OBJECTIVES[recipe.modality.noise][objective_name(recipe)]
    if recipe.modality.objectives:
        return build(ClassifierConfig() if plain else recipe.classifier, data)
    config = recipe.diffusion
    if plain:
        config = replace(
            DiffusionConfig(),
            prediction=config.prediction,
            timesteps=config.timesteps,
            timestep_location=config.timestep_location,
            schedule=config.schedule if time_conditioning else DiffusionConfig.schedule,
        )
    objective = build(replace(config, masks=config.masks_for(time_conditioning)), data)
    if recipe.model.context != "clean":
        if not isinstance(objective, DiffusionObjective):
            raise UserError(
                f"training.objective {objective_name(recipe)} needs clean blocks: leave out model.context"
            )
        objective.context = recipe.model.context
    return objective


def objective_name(recipe: Recipe) -> str:
    """Return the name of a recipe's objective.

    Raises:
        UserError: If the recipe's modality has no objective of that name.
    """
    objectives = OBJECTIVES[recipe.modality.noise]
    name = recipe.training.objective or recipe.modality.objective
    if name not in objectives:
        raise UserError(
            f"training.objective of {recipe.modality.samples} must be one of {', '.join(objectives)}, "
            f"not {name!r}; did you mean {nearest(name, objectives)[0]}?"
        )
    return name
