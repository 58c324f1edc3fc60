"""`acdit autoencoder`: train an autoencoder, or resume its training."""

from dataclasses import dataclass
from typing import ClassVar

from ..training.autoencoder_config import AutoencoderRecipe
from .command import RecipeCommand


@dataclass
class AutoencoderOptions(AutoencoderRecipe):
    """Train an autoencoder for latent space.

    RECIPE is one of the names at the end or the path of a YAML file. Options replace values of the recipe.
    The run ends in a folder that `--autoencoder.model` of other commands can name.
    """

    section: ClassVar[str] = "--"

    device: str | None = None
    """Device, such as cpu or cuda; default: a GPU if there is one."""


def run(options: AutoencoderOptions) -> None:
    """Train to the end of the recipe, and print the path of the autoencoder."""
    from ..training.autoencoder import train_autoencoder
    from .open_model import device_of

    print(f"the trained autoencoder is in {train_autoencoder(options, device_of(options.device))}")


COMMAND = RecipeCommand(
    name="autoencoder",
    summary="learn a latent space",
    arguments="RECIPE",
    brief="acdit autoencoder mnist",
    example="acdit autoencoder mnist --steps 1000 --model.channels 16,32,64",
    kind=AutoencoderRecipe,
    options=AutoencoderOptions,
    run=run,
)
