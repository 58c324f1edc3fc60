"""Recipes by name or path: YAML files that hold a `Recipe`, or an `AutoencoderRecipe`. Free of torch."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from ..utils.errors import UserError
from ..utils.settings import build, flatten, nearest
from .autoencoder_config import AutoencoderRecipe
from .config import FORMAT_VERSION, NamedRun, Recipe

SHIPPED = Path(__file__).parent.parent / "recipes"
FOLDERS: dict[type[NamedRun], Path] = {Recipe: SHIPPED, AutoencoderRecipe: SHIPPED / "autoencoders"}


def recipe_names(kind: type[NamedRun] = Recipe) -> list[str]:
    """The recipes of a kind that come with the package."""
    return sorted(path.stem for path in FOLDERS[kind].glob("*.yaml"))


def load_recipe(recipe: str | Path, /, **overrides: object) -> Recipe:
    """A recipe of the package by name, or a YAML (or JSON) file, with some values replaced.

    `load_recipe("mnist", training={"steps": 9})` means `load_recipe("mnist", **{"training.steps": 9})`.
    """
    return build(Recipe, recipe_values(recipe) | flatten(overrides))


def recipe_values(recipe: str | Path, kind: type[NamedRun] = Recipe) -> dict[str, Any]:
    """What a recipe names, by dotted key, after a check that it is one of that kind."""
    values = _read(_find(str(recipe), kind))
    version = values.pop("format_version", FORMAT_VERSION)
    if str(version) != str(FORMAT_VERSION):
        raise UserError(
            f"{recipe}: format_version must be {FORMAT_VERSION}, not {version!r}; use a newer acdit"
        )
    build(kind, values, source=str(recipe))  # an error in the file names the file
    return values


def recipe_to_dict(recipe: NamedRun) -> dict[str, Any]:
    """The whole recipe, defaults included, as JSON and YAML can hold it."""
    kind = next(kind for kind in FOLDERS if isinstance(recipe, kind))  # of a command's options, the recipe
    own = {field.name for field in fields(kind)}
    values = {name: value for name, value in asdict(recipe).items() if name in own}
    return json.loads(json.dumps({"format_version": FORMAT_VERSION} | values))


def recipe_to_yaml(recipe: NamedRun) -> str:
    """The whole recipe as a YAML file that `load_recipe` reads."""
    return yaml.safe_dump(recipe_to_dict(recipe), sort_keys=False)


def _find(recipe: str, kind: type[NamedRun]) -> Path:
    if recipe in recipe_names(kind):
        return FOLDERS[kind] / f"{recipe}.yaml"
    path = Path(recipe)
    if path.is_file():
        return path
    names = nearest(recipe, recipe_names(kind))
    raise UserError(f"no recipe {recipe!r}: there are {', '.join(names)}, or give the path of a YAML file")


def _read(path: Path) -> dict[str, Any]:
    """Values by dotted key; scalars stay text, so that `no` and `1e-3` read as on the command line."""
    try:
        content = yaml.load(path.read_bytes(), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{path} must be YAML: {error}") from error
    if not isinstance(content, dict | None):
        raise UserError(f"{path} must hold keys and values of a recipe, not {content!r}")
    return flatten(content or {})
