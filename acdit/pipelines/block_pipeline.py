"""BlockPipeline: what the pipelines of all modalities have in common."""

from abc import abstractmethod
from typing import Any, Self

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from ..model.layout import Layout
from ..model.transformer import ACDiTTransformer
from ..utils.errors import UserError

FORMAT_VERSION = 1


class BlockPipeline(DiffusionPipeline):
    """Generates block by block with a network and a scheduler.

    Attributes:
        transformer: the network.
        scheduler: any scheduler for what the network predicts, see `Solver`.
    """

    transformer: ACDiTTransformer
    scheduler: Any

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Self:
        """Load as any diffusers pipeline, but never a pickle."""
        return super().from_pretrained(pretrained_model_name_or_path, **{"use_safetensors": True, **kwargs})

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Generate samples; see the pipelines."""

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """The default layout."""

    @property
    def tokenizer_digest(self) -> str | None:
        """A hash of the tokeniser; None for pipelines of values."""
        return None

    def default_steps(self, layout: Layout) -> list[int]:
        """Return the solver steps that a call takes for each block of a layout when it is not told."""
        return [self.config["num_inference_steps"]] * layout.num_blocks


def check_format(version: int) -> None:
    """Raise UserError unless this version of the library reads a saved pipeline of a format version."""
    if version != FORMAT_VERSION:
        raise UserError(f"this pipeline has format version {version}, not {FORMAT_VERSION}: upgrade acdit")
