"""Read and write recipes by name or path: YAML files of a `Recipe` or an `AutoencoderRecipe`.

This module does not import torch.
"""

import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from ..utils.errors import UserError
from ..utils.settings import build, flatten, nearest
from ..utils.untrusted import read_yaml, shown
from .autoencoder_config import AutoencoderRecipe
from .config import FORMAT_VERSION, NamedRun, Recipe

PICTURES = "pictures"  # name of the recipe for a folder
SHIPPED = Path(__file__).parent.parent / "recipes"
# Descriptions of the paths that name a recipe of each class.
RECIPE_PATHS: dict[type[NamedRun], str] = {
    Recipe: "a YAML file or of a folder of pictures",
    AutoencoderRecipe: "a YAML file",
}
FOLDERS: dict[type[NamedRun], Path] = {Recipe: SHIPPED, AutoencoderRecipe: SHIPPED / "autoencoders"}


def recipe_names(recipe_class: type[NamedRun] = Recipe) -> list[str]:
    """Return the names of the recipes of a class that come with the package."""
    return sorted(path.stem for path in FOLDERS[recipe_class].glob("*.yaml"))


def load_recipe(recipe: str | Path, /, **overrides: object) -> Recipe:
    """Load a recipe of the package by name, a YAML (or JSON) file, or the recipe for a folder of pictures.

    `load_recipe("mnist", training={"steps": 9})` equals `load_recipe("mnist", **{"training.steps": 9})`.

    Args:
        recipe: Name of a recipe of the package, path of a YAML or JSON file, or a folder of pictures.
        **overrides: Values in place of those of the recipe, by section or by dotted key.

    Raises:
        UserError: If there is no such recipe, a key is unknown, or a value is not valid; the message names
            the key and the nearest known one.
    """
    return build(Recipe, recipe_values(recipe) | flatten(overrides))


def recipe_values(recipe: str | Path, recipe_class: type[NamedRun] = Recipe) -> dict[str, Any]:
    """Return the values that a recipe sets, by dotted key, after checking that it is valid for its class.

    A folder stands for the recipe `pictures` with that folder as its data.
    """
    if recipe_class is Recipe and Path(recipe).is_dir() and str(recipe) not in recipe_names():
        name = re.sub(r"[^\w.-]+", "-", Path(recipe).resolve().name).strip("-.") or PICTURES
        return recipe_values(PICTURES) | {"name": name, "data.source": str(recipe)}
    values = _read(_recipe_path(str(recipe), recipe_class))
    version = values.pop("format_version", FORMAT_VERSION)
    if str(version) != str(FORMAT_VERSION):
        raise UserError(
            f"{recipe}: format_version must be {FORMAT_VERSION}, not {version!r}; use a newer acdit"
        )
    build(recipe_class, values, source=str(recipe))  # raises an error that names the file
    return values


def recipe_to_dict(recipe: NamedRun) -> dict[str, Any]:
    """Return the whole recipe, including defaults, as values that JSON and YAML can represent."""
    # the options of a command are a subclass of a recipe
    recipe_class = next(recipe_class for recipe_class in FOLDERS if isinstance(recipe, recipe_class))
    field_names = {field.name for field in fields(recipe_class)}
    values = {name: value for name, value in asdict(recipe).items() if name in field_names}
    return json.loads(json.dumps({"format_version": FORMAT_VERSION} | values))


def recipe_to_yaml(recipe: NamedRun) -> str:
    """Return the whole recipe as YAML text that `load_recipe` can read."""
    return yaml.safe_dump(recipe_to_dict(recipe), sort_keys=False)


def _recipe_path(recipe: str, recipe_class: type[NamedRun]) -> Path:
    if recipe in recipe_names(recipe_class):
        return FOLDERS[recipe_class] / f"{recipe}.yaml"
    path = Path(recipe)
    if path.is_file():
        return path
    names = nearest(recipe, recipe_names(recipe_class))
    raise UserError(
        f"no recipe {recipe!r}: choose one of {', '.join(names)}, or give the path of "
        f"{RECIPE_PATHS[recipe_class]}"
    )


def _read(path: Path) -> dict[str, Any]:
    """Read values by dotted key, scalars as text, so that `no` and `1e-3` parse as on the command line."""
    content = read_yaml(path)
    if not isinstance(content, dict | None):
        raise UserError(f"{path} must hold keys and values of a recipe, not {shown(content)}")
    return flatten(content or {})
