"""Weights of the checkpoints of a training run, in a pipeline that the run exported."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from torch import Tensor

from ..model.transformer import ACDiTTransformer
from ..pipelines.block_pipeline import BlockPipeline
from ..utils.errors import UserError
from ..utils.settings import flatten
from .checkpoint import Stored, check_whole, read_part, stored_checkpoints
from .lora import add_lora, merged

CHECKPOINTS = "checkpoints"  # folder of a run's checkpoints in its folder
RAW = None  # average of the weights that are not averaged


class StoredWeights:
    """The checkpoints of a training run, each with the raw weights and their moving average.

    Args:
        run: folder of the training run.

    Raises:
        UserError: if the folder holds no checkpoints.
    """

    def __init__(self, run: Path):
        folder = run / CHECKPOINTS
        self._stored = {stored.step: stored for stored in stored_checkpoints(folder)}
        if not self._stored:
            raise UserError(
                f"{run} holds no checkpoints: give the folder of a training run, which has {CHECKPOINTS}/"
            )
        self._run = run

    @property
    def steps(self) -> list[int]:
        """Return the steps of the checkpoints in ascending order."""
        return sorted(self._stored)

    def decay(self, step: int) -> float | None:
        """Return the decay of the moving average that a checkpoint holds; None if it records none."""
        return flatten(self._checkpoint(step).state.get("recipe", {})).get("optimizer.ema_decay")

    def check(self, step: int, decay: float | None) -> None:
        """Check that a checkpoint holds an average of the weights.

        Args:
            step: step of the checkpoint.
            decay: decay of the moving average; None = the raw weights.

        Raises:
            UserError: if there is no such checkpoint, or it holds another average.
        """
        stored = self.decay(step)
        if decay is not RAW and decay != stored:
            available = [*([] if stored is None else [f"{stored:g}"]), "none (the raw weights)"]
            raise UserError(
                f"{self._checkpoint(step).path} holds no moving average of decay {decay:g}: "
                f"it holds {' and '.join(available)}"
            )

    def load(self, pipeline: BlockPipeline, step: int, decay: float | None) -> None:
        """Load the weights of a checkpoint into the network of the pipeline that the run exported.

        Args:
            pipeline: the pipeline, which keeps its settings, device and precision.
            step: step of the checkpoint.
            decay: decay of the moving average; None = the raw weights.

        Raises:
            UserError: if there is no such checkpoint or average, or it does not fit the pipeline.
        """
        self.check(step, decay)
        stored = self._checkpoint(step)
        check_whole(stored)
        state = read_part(stored, "model")
        if decay is not RAW:
            state |= read_part(stored, "ema")  # parameters that are not trained have no average
        _load(pipeline.transformer, state, stored)

    def _checkpoint(self, step: int) -> Stored:
        if step not in self._stored:
            raise UserError(
                f"{self._run} holds no checkpoint of step {step}: it holds those of {_listed(self.steps)}"
            )
        return self._stored[step]


def _load(network: ACDiTTransformer, state: dict[str, Tensor], stored: Stored) -> None:
    """Load the state of a run's network, which may have adapters, into one without."""
    lora = stored.state.get("recipe", {}).get("lora") or {}
    if lora.get("rank"):
        adapted = cast(ACDiTTransformer, ACDiTTransformer.from_config(stored.state["network"]))
        add_lora(adapted, lora["rank"], lora["alpha"], lora["targets"])
        adapted.load_state_dict(state)
        state = merged(adapted).state_dict()
    shapes, expected = (
        {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        for tensors in (state, network.state_dict())
    )
    if shapes != expected:
        name = min(name for name in {*shapes, *expected} if shapes.get(name) != expected.get(name))
        raise UserError(f"{stored.path} holds another network than the pipeline of its run: {name} differs")
    network.load_state_dict(state)


def _listed(steps: Sequence[int]) -> str:
    shown = [str(step) for step in steps]
    return ", ".join(shown if len(shown) <= 8 else [*shown[:4], "..", *shown[-3:]])
