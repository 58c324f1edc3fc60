"""`acdit sample`: generate images, videos or texts. Its options are in sample_images.py and so on."""

from collections.abc import Callable
from typing import cast

from ..modalities.modality import Modality
from ..utils.references import load_object
from .command import ModalityCommand
from .model_options import RunOptions


def run(modality: Modality, options: RunOptions) -> None:
    """Generate samples with the function of a modality."""
    cast(Callable[[RunOptions], None], load_object(modality.sample))(options)


COMMAND = ModalityCommand(
    name="sample",
    summary="generate samples",
    example="acdit sample --labels 3,1,4 --block 4x4 --out digits.png",
    run=run,
)
