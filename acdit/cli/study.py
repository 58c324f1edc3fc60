"""`acdit study`: run a study of quality against cost, or of likelihood against block size."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from ..utils.errors import UserError
from ..utils.ranges import MANY, Count, Range
from .command import PlainCommand
from .model_options import GuidedOptions

if TYPE_CHECKING:
    from ..studies.measurements import StudyResult


@dataclass
class StudyOptions(GuidedOptions):
    """Compare settings for sampling digits at their cost, or block sizes of text at one training budget."""

    name: Literal["sampling", "text"] | None = None
    """Study to run: `sampling`, solvers and numbers of steps; `text`, block sizes and likelihood."""
    samples: Annotated[int, Range(10, MANY)] = 500
    """Number of digits per setting and seed; for text, number of held-out sequences."""
    seeds: Annotated[int, Range(2, MANY)] = 3
    """Number of seeds per setting; for text, number of times that each network is trained."""
    training_steps: Count = 500
    """For text: training steps of each network, over --batch sequences of 256 bytes."""
    out: str | None = None
    """Folder to write, default: out/study-NAME; run the same command again to resume the study."""

    @property
    def folder(self) -> Path:
        """Return the folder to write."""
        return Path(self.out or f"out/study-{self.name}")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name is None:
            raise UserError("study needs a name: acdit study sampling, or acdit study text")
        if self.steps is not None or self.fast or self.guidance_interval is not None:
            raise UserError("the study varies --steps, --fast and --guidance-interval: leave them out")
        own = (self.model, self.guidance, self.device, self.dtype != "float32" or None)
        if self.name == "text" and any(given is not None for given in own):
            raise UserError(
                "acdit study text trains its own networks: leave out --model, "
                "--guidance, --device and --dtype"
            )


def run(options: StudyOptions) -> None:
    """Run the missing measurements, print the table, and write the picture and the measurements."""
    from ..utils.files import check_writable

    check_writable(options.folder / "measurements.json")
    result = _study_text(options) if options.name == "text" else _study_sampling(options)
    if result is not None:
        print(result.report)
        print(f"written: {', '.join(map(str, result.files))}")


def _study_text(options: StudyOptions) -> "StudyResult | None":
    from ..studies.text import Budget, study_text

    budget = Budget(options.training_steps, options.batch, options.samples)
    return study_text(options.folder, budget, first_seed=options.seed, seeds=options.seeds)


def _study_sampling(options: StudyOptions) -> "StudyResult":
    from ..pipelines.folders import pipeline_folder
    from ..pipelines.image import ACDiTImagePipeline
    from ..studies.sampling import study_sampling
    from .open_model import open_guided, sampling_of

    pipeline = open_guided(options, ACDiTImagePipeline)
    return study_sampling(
        pipeline,
        pipeline_folder(options.model),
        options.folder,
        sampling_of(options, pipeline),
        samples=options.samples,
        seeds=options.seeds,
    )


COMMAND = PlainCommand(
    name="study",
    summary="run a study",
    arguments="NAME",
    brief="acdit study sampling --out out/study",
    example="acdit study sampling --samples 500 --seeds 3 --out out/study",
    options=StudyOptions,
    positional="name",
    run=run,
)
