"""Digest of what a run trains to: the settings of its recipe that count, and the version of training."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.data_sets import PIXEL_SETS, TEXT_SETS
from ..pipelines.folders import pipeline_folder
from ..utils.files import file_digest, model_digest
from ..utils.settings import flatten
from .config import Recipe
from .recipes import recipe_to_dict
from .resuming import CHANGEABLE

# By noise process, raised whenever the same recipe trains to another result, so that stored runs are trained
# again.
TRAINING_VERSIONS = {"continuous": 1, "masked": 2, "classes": 1}
# Sections whose keys change what a run leaves, though not its weights: the log of validation losses, and the
# sampling defaults of the pipeline.
COUNTED_SECTIONS = ("validation.", "sampling.")
NEUTRAL = {
    "format_version",
    *(key for key in CHANGEABLE if key != "training.steps" and not key.startswith(COUNTED_SECTIONS)),
}
# Keys whose value may be a path.
PATHS = {
    "data.source",
    "data.listed",
    "data.tokenizer",
    "validation.source",
    "validation.listed",
    "autoencoder.model",
    "autoencoder.latents",
}
BUILT_IN = {*PIXEL_SETS, *TEXT_SETS, "bytes"}  # values that are names even where a file has the same name


def counted_settings(recipe: Recipe, runs: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the values of a recipe that determine the trained model, by dotted key, without defaults.

    Since defaults are left out, a new key with a default does not change the settings of earlier recipes. A
    file is replaced by a digest of its content, a folder by its absolute path, and a pipeline in
    `training.init_from` by a digest of its files.

    Args:
        recipe: Recipe of the run.
        runs: Digests of other runs that the recipe names, by the key that names them.

    Raises:
        UserError: If `training.init_from` is not a model.
    """
    runs = runs or {}
    values, defaults = (flatten(recipe_to_dict(each)) for each in (recipe, Recipe()))
    if recipe.autoencoder.model is not None:
        values["autoencoder.latents"] = str(recipe.latents)  # depends on the name by default
    settings = {key: value for key, value in values.items() if value != defaults[key] and key not in NEUTRAL}
    for key, value in settings.items():
        if key in runs:
            settings[key] = f"run {runs[key]}"
        elif key == "training.init_from":
            settings[key] = f"files {model_digest(pipeline_folder(value))}"
        elif key in PATHS and value is not None and value not in BUILT_IN:
            settings[key] = _identified(value)
    return settings


def training_version(recipe: Recipe) -> int:
    """Return the version of the training of a recipe's noise process."""
    return TRAINING_VERSIONS[recipe.modality.noise]


def settings_digest(settings: Mapping[str, Any], version: int) -> str:
    """Return the digest of counted settings and of the version of training."""
    text = json.dumps([version, settings], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _identified(value: str) -> str:
    """Return a value that may be a path in a form that names the same data in every working directory."""
    path = Path(value).expanduser()
    if path.is_file():
        return f"file {file_digest(path)}"
    return str(path.resolve()) if path.is_dir() else value
