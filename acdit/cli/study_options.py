"""What `acdit study` takes. Free of torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..utils.checks import option_at_least
from ..utils.errors import UserError
from .model_options import GuidedOptions


@dataclass
class StudyOptions(GuidedOptions):
    """Compare ways to sample digits at their cost, or block sizes of text at one training budget."""

    name: Literal["sampling", "text"] | None = None
    """What is studied: `sampling`, solvers and numbers of steps; `text`, block sizes and likelihood."""
    samples: int = 500
    """Digits of each way and seed; of text held-out sequences."""
    seeds: int = 3
    """Times that each way draws; of text that each network is trained."""
    training_steps: int = 500
    """Of text, steps of each network, over --batch sequences of 256 bytes."""
    out: str | None = None
    """The folder to write, out/study-NAME when left out; the same command again goes on with it."""

    @property
    def folder(self) -> Path:
        """What to write into."""
        return Path(self.out or f"out/study-{self.name}")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is None:
            raise UserError("study needs a name: acdit study sampling, or acdit study text")
        if self.steps is not None or self.fast or self.guidance_interval is not None:
            raise UserError(
                "--steps, --fast and --guidance-interval are what the study varies: leave them out"
            )
        own = (self.model, self.guidance, self.device, self.dtype != "float32" or None)
        if self.name == "text" and any(given is not None for given in own):
            raise UserError(
                "the study of text trains its own networks, where acdit train would: leave out --model, "
                "--guidance, --device and --dtype"
            )
        option_at_least(1, training_steps=self.training_steps)
        option_at_least(10, samples=self.samples)
        option_at_least(2, seeds=self.seeds)
