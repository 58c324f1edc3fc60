"""BlockPipeline: the base class of the pipelines of all modalities."""

from collections.abc import Sequence
from typing import Any, Self

from ..diffusion.solver_checks import check_solver, prediction_of
from ..model.layout import Layout
from ..model.transformer import ACDiTTransformer
from ..utils.errors import UserError
from .callbacks import LoopState, StepFunction, tensor_inputs
from .lora import LoraLoader
from .stored_pipeline import StoredPipeline


class BlockPipeline(LoopState, StoredPipeline, LoraLoader):
    """Base class of pipelines that generate block by block with a network and a scheduler.

    Attributes:
        transformer: the network.
        scheduler: any scheduler that matches what the network predicts, see `Solver`.
    """

    transformer: ACDiTTransformer
    scheduler: Any

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Self:
        """Load a pipeline as in diffusers, by default without pickles and without code of the model.

        Raises:
            UserError: if the files of the model are damaged or cannot be had, if weights are not finite, or
                if a given scheduler does not fit the network.
        """
        # The saved scheduler is loaded first: in folders of earlier versions it alone tells what the network
        # predicts.
        scheduler = kwargs.pop("scheduler", None)
        pipeline = super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        if scheduler is not None:
            pipeline.scheduler = scheduler
        return pipeline

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("scheduler", "transformer") and "format_version" in getattr(self, "_internal_dict", {}):
            parts = {"scheduler": self.scheduler, "transformer": self.transformer} | {name: value}
            self._check_solver(**parts)
        super().__setattr__(name, value)

    def _check_solver(self, scheduler: Any = None, transformer: Any = None) -> None:
        """Check that a scheduler fits a network, by default those of the pipeline; see `check_solver`.

        A network that does not record what it predicts is recorded to predict what the scheduler expects.
        """
        scheduler = self.scheduler if scheduler is None else scheduler
        transformer = self.transformer if transformer is None else transformer
        check_solver(scheduler, transformer.config, bounds=self._data_bounds)
        key, value = "prediction_type", prediction_of(scheduler)
        if transformer.config.get("vocab_size") is not None:
            key, value = "schedule", scheduler.config["schedule"]
            value = value if transformer.config["time_conditioning"] else None
        if value is not None and transformer.config.get(key) is None:
            transformer.register_to_config(**{key: value})

    @property
    def _data_bounds(self) -> tuple[float, float] | None:
        """Return the lowest and the highest value of the data; None if there are none, as for latents."""
        return None

    def _callback_inputs(self, function: StepFunction | None, names: Sequence[str]) -> Sequence[str]:
        """Return the names of the tensors that a callback receives; see `tensor_inputs`.

        Raises:
            UserError: if the callback cannot be called, or is to receive tensors that do not exist.
        """
        names = tensor_inputs(function, names or ())  # diffusers takes None for none
        unknown = sorted(set(names) - set(self._callback_tensor_inputs))
        if unknown:
            known = ", ".join(self._callback_tensor_inputs)
            raise UserError(
                f"callback_on_step_end_tensor_inputs may only hold {known}, not {', '.join(unknown)}"
            )
        return names

    @property
    def tokenizer_digest(self) -> str | None:
        """Return a hash of the tokenizer, or None for pipelines of images and video."""
        return None

    def default_steps(self, layout: Layout) -> list[int]:
        """Return the default number of solver steps for each block of a layout."""
        return [self.config["num_inference_steps"]] * layout.num_blocks
