"""Settings of `acdit evaluate --sweep`, and the weights that it names. Imports torch only when it runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..utils.errors import UserError
from .sweep_options import ALL

if TYPE_CHECKING:
    from ..pipelines.block_pipeline import BlockPipeline
    from ..training.stored_weights import StoredWeights

WEIGHTS = ("checkpoint", "ema")  # settings that choose weights


class SweptSettings:
    """All combinations of the settings of a sweep, which are checked before the first is scored.

    Args:
        model: model of the command line; the folder of a training run if weights are swept.
        swept: values of each setting by name; none = a single combination without settings.

    Raises:
        UserError: if the model is no training run, or does not hold the weights that are swept.
    """

    def __init__(self, model: str | None, swept: Mapping[str, Sequence[Any]]):
        from ..evaluation.sweeps import combinations
        from ..training.stored_weights import CHECKPOINTS, StoredWeights

        values = {name: list(chosen) for name, chosen in swept.items()}
        self._weights: StoredWeights | None = None
        if any(name in values for name in WEIGHTS):
            folder = Path(model or "")
            if not (folder / CHECKPOINTS).is_dir():
                name = next(name for name in WEIGHTS if name in values)
                raise UserError(
                    f"--sweep {name} needs the folder of a training run, which holds {CHECKPOINTS}/, as "
                    f"--model, not {model}"
                )
            self._weights = StoredWeights(folder)
            if values.get("checkpoint") == [ALL]:
                values["checkpoint"] = self._weights.steps
        self.combinations = list(combinations(values))
        for chosen in self.combinations:
            if self._weights is not None:
                self._weights.check(*self._weights_of(self._weights, chosen))

    def load(self, pipeline: "BlockPipeline", chosen: Mapping[str, Any]) -> None:
        """Load the weights of a combination into a pipeline, if weights are swept."""
        if self._weights is not None:
            self._weights.load(pipeline, *self._weights_of(self._weights, chosen))

    @staticmethod
    def _weights_of(weights: "StoredWeights", chosen: Mapping[str, Any]) -> tuple[int, float | None]:
        """Return the step and the decay of the average of a combination; by default the newest, averaged."""
        step = chosen.get("checkpoint", weights.steps[-1])
        return step, chosen["ema"] if "ema" in chosen else weights.decay(step)
