"""What `acdit study` takes. Free of torch."""

from dataclasses import dataclass
from typing import Literal

from ..checks import option_at_least
from ..errors import UserError
from ..options import RunOptions


@dataclass
class StudyOptions(RunOptions):
    """Draw digits in cheaper and cheaper ways, and plot their quality against what they cost."""

    name: Literal["sampling"] | None = None
    """What is studied: `sampling`, solvers and numbers of steps."""
    samples: int = 500
    """Digits of each way and seed."""
    seeds: int = 3
    """Times that each way draws."""
    out: str = "out/study-sampling"
    """The folder to write; the same command again goes on with it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is None:
            raise UserError("study needs a name: acdit study sampling")
        if self.steps is not None or self.fast or self.guidance_interval is not None:
            raise UserError(
                "--steps, --fast and --guidance-interval are what the study varies: leave them out"
            )
        option_at_least(10, samples=self.samples)
        option_at_least(2, seeds=self.seeds)
