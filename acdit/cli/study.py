"""`acdit study`: run a study of sampling settings, of block sizes of text, or of evaluation metrics."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from ..utils.errors import UserError
from ..utils.ranges import MANY, Count, Range
from .command import PlainCommand
from .model_options import GuidedOptions

if TYPE_CHECKING:
    from ..studies.measurements import StudyResult

SAMPLES, SEEDS = 500, 3


@dataclass
class StudyOptions(GuidedOptions):
    """Compare settings for sampling digits, or block sizes of text; or measure what metrics are worth."""

    name: Literal["sampling", "text", "metrics", "intervals"] | None = None
    """Study to run: `sampling`, solvers and numbers of steps; `text`, block sizes and likelihood; `metrics`,
    what faults of samples do to each score; `intervals`, how often intervals of scores are right."""
    samples: Annotated[int, Range(10, MANY)] = SAMPLES
    """Number of digits per setting and seed; for text, number of held-out sequences; for metrics, number of
    samples in a set."""
    seeds: Annotated[int, Range(2, MANY)] = SEEDS
    """Number of seeds per setting; for text, number of times that each network is trained; for metrics,
    number of sets with each fault at each strength."""
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
            raise UserError("study needs a name: acdit study sampling, text, metrics or intervals")
        if self.steps is not None or self.fast or self.guidance_interval is not None:
            raise UserError("the study varies --steps, --fast and --guidance-interval: leave them out")
        own = (self.model, self.guidance, self.device, self.dtype != "float32" or None)
        if self.name != "sampling" and any(given is not None for given in own):
            reason = "trains its own networks" if self.name == "text" else "samples no model"
            raise UserError(
                f"acdit study {self.name} {reason}: leave out --model, --guidance, --device and --dtype"
            )
        if self.name == "intervals" and (self.samples, self.seeds) != (SAMPLES, SEEDS):
            raise UserError(
                "acdit study intervals simulates sets of several sizes: leave out --samples and --seeds"
            )


def run(options: StudyOptions) -> None:
    """Run the missing measurements, print the table, and write the picture and the measurements."""
    from ..utils.files import check_writable

    check_writable(options.folder / "measurements.json")
    studies = {"text": _study_text, "metrics": _study_metrics, "intervals": _study_intervals}
    result = studies.get(options.name or "", _study_sampling)(options)
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


def _study_metrics(options: StudyOptions) -> "StudyResult":
    from ..studies.metric_faults import study_metrics

    return study_metrics(options.folder, seed=options.seed, count=options.samples, damaged=options.seeds)


def _study_intervals(options: StudyOptions) -> "StudyResult":
    from ..studies.intervals import study_intervals

    return study_intervals(options.folder, seed=options.seed)


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
