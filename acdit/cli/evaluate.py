"""`acdit evaluate`: score a model. Its options are in evaluate_images.py and so on."""

from .command import ModalityCommand

COMMAND = ModalityCommand(
    name="evaluate",
    summary="score a model",
    brief="acdit evaluate --model runs/mnist",
    example="acdit evaluate --model runs/mnist --out scores.json",
    keys={"data.source": "", "data.split": "--split", "data.text_column": "--text-column"},
)
