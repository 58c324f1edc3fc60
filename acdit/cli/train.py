"""`acdit train`: train a model by a recipe, or resume its training."""

from dataclasses import dataclass
from typing import ClassVar

from ..training.config import Recipe
from .command import RecipeCommand


@dataclass
class TrainOptions(Recipe):
    """Train a model by a recipe, or resume an earlier run of it.

    RECIPE is one of the names at the end, the path of a YAML file, or a folder of pictures with one
    sub-folder per class. Options replace values of the recipe; `acdit train mnist --help` shows those of a
    recipe as defaults.
    """

    section: ClassVar[str] = "--"

    allow_changes: bool = False
    """Resume a run that was started with another recipe or other data, and list the differences."""


def run(options: TrainOptions) -> None:
    """Train to the end of the recipe, and print the path of the pipeline."""
    from ..training.loop import train
    from ..utils.ranks import launched

    trained = train(options, allow_changes=options.allow_changes)
    if trained is not None and launched().main:
        print(f"the trained pipeline is in {trained}")


COMMAND = RecipeCommand(
    name="train",
    summary="train a model",
    arguments="RECIPE",
    brief="acdit train mnist",
    example="acdit train mnist --training.steps 1000 --layout.blocks 4x4,2x2 --print_config",
    kind=Recipe,
    options=TrainOptions,
    run=run,
)
