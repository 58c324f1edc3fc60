"""`acdit encode`: encode the images of a recipe to latents, or only those that are still missing."""

from dataclasses import dataclass
from typing import ClassVar

from ..training.config import Recipe
from ..utils.ranges import Count
from .command import RecipeCommand


@dataclass
class EncodeOptions(Recipe):
    """Encode the images of a recipe to latents on disk.

    RECIPE is one of the names at the end or the path of a YAML file, with `autoencoder.model` set. Options
    replace values of the recipe; only those of the data and the autoencoder matter here.
    """

    section: ClassVar[str] = "--"

    device: str | None = None
    """Device, such as cpu or cuda; default: a GPU if there is one."""
    batch: Count = 32
    """Number of images encoded at once."""
    verify: bool = False
    """Compare the files of an earlier run with their digests, and encode damaged ones again."""


def run(options: EncodeOptions) -> None:
    """Encode the images, and print the number of latents."""
    from ..data.encoding import encode_pixels
    from ..training.progress import reasons_of
    from .open_model import device_of

    manifest = encode_pixels(
        options.latents,
        options.data,
        options.autoencoder,
        seed=options.training.seed,
        device=device_of(options.device),
        batch=options.batch,
        verify=options.verify,
    )
    if manifest is not None:  # otherwise another rank finishes last
        skipped = manifest["skipped"]
        count = f"{manifest['count']:,} {options.modality.samples}"
        reasons = f": {reasons_of(skipped)}" if skipped else ""
        print(f"{options.latents} holds latents of {count}; {len(skipped)} skipped{reasons}")


COMMAND = RecipeCommand(
    name="encode",
    summary="latents to train on",
    arguments="RECIPE",
    brief="acdit encode mnist-latent",
    example="acdit encode imagenet256-xl --data.source FOLDER --batch 64 --device cuda",
    kind=Recipe,
    options=EncodeOptions,
    run=run,
)
