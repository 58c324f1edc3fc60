"""`acdit evaluate`: score a model. Its options are in evaluate_images.py and so on."""

from collections.abc import Callable
from typing import cast

from ..modalities.modality import Modality
from ..utils.references import load_object
from .command import ModalityCommand
from .model_options import RunOptions


def run(modality: Modality, options: RunOptions) -> None:
    """Score a model with the function of its modality."""
    cast(Callable[[RunOptions], None], load_object(modality.evaluate))(options)


COMMAND = ModalityCommand(
    name="evaluate",
    summary="score a model",
    example="acdit evaluate --model runs/mnist --out scores.json",
    run=run,
)
