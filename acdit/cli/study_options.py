"""Options of the studies: one class for each that has options of its own. Does not import torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from ..utils.checks import option_suffix
from ..utils.errors import UserError
from ..utils.ranges import MANY, AtLeastTwo, Count, Range, Ranged, SamplingSteps
from .model_options import GuidedOptions

AtLeastTen = Annotated[int, Range(10, MANY)]
StudySeed = Annotated[int, Range(-(2**31), 2**31)]  # samples have seeds of their own: seed x samples + number
QUICK_NETWORK = {"num_layers": 1, "hidden_size": 8, "num_heads": 1}


@dataclass
class StudyOptions(Ranged):
    """Run a study, or resume it: the same command does what is missing."""

    section: ClassVar[str] = "--"

    seed: StudySeed = 0
    """First seed."""
    dry_run: bool = False
    """List training runs and measurements, with what exists already, FLOPs and hours, and do nothing."""
    refresh: bool = False
    """Measure everything again, in place of measurements of other settings or another version; finished
    training runs stay. To continue after a stop, leave it out."""
    out: str | None = None
    """Folder of measurements, tables and plots, default: out/study-NAME; run the same command again to resume
    the study."""

    def folder(self, name: str) -> Path:
        """Return the folder that the study of a name writes."""
        return Path(self.out or f"out/study-{name}")

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the function that designs the study."""
        return {"seed": self.seed}


@dataclass
class BudgetedStudyOptions(StudyOptions):
    """Run a study that has a quick budget, or resume it: the same command does what is missing."""

    budget: Literal["full", "quick"] = "full"
    """Budget: that of the other options (full), or at most what takes seconds, to try the study (quick)."""

    def folder(self, name: str) -> Path:
        """Return the folder that the study of a name writes; a quick one does not mix with a full one."""
        return super().folder(name if self.budget == "full" else f"{name}-quick")


@dataclass
class TrainingStudyOptions(BudgetedStudyOptions):
    """Run a study that trains networks, or resume it: the same command does what is missing."""

    jobs: Annotated[int, Range(1, 1024)] = 1
    """Number of networks to train at once, each in its own process with its fraction of the threads, and on
    its own GPU if there are several."""


@dataclass
class SamplingStudyOptions(GuidedOptions, StudyOptions):
    """Compare solvers, numbers of steps and guidance for sampling digits."""

    samples: AtLeastTen = 500
    """Number of digits per setting and seed."""
    seeds: AtLeastTwo = 3
    """Number of seeds per setting."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None or self.fast or self.guidance_interval is not None:
            raise UserError("the study varies --steps, --fast and --guidance-interval: leave them out")

    def arguments(self) -> dict[str, Any]:
        """Load the pipeline, and return the arguments of the function that designs the study."""
        from ..pipelines.folders import pipeline_folder
        from ..pipelines.image import ACDiTImagePipeline
        from .open_model import open_guided, sampling_of

        pipeline = open_guided(self, ACDiTImagePipeline)
        return {
            "pipeline": pipeline,
            "model": pipeline_folder(self.model),
            "sampling": sampling_of(self, pipeline),
            "samples": self.samples,
            "seeds": self.seeds,
        }


@dataclass
class TextStudyOptions(TrainingStudyOptions):
    """Train networks on texts in blocks of several sizes, and compare their likelihoods."""

    samples: AtLeastTen = 500
    """Number of held-out sequences to score."""
    seeds: AtLeastTwo = 3
    """Number of times that each network is trained; verdicts need five."""
    training_steps: Count = 500
    """Training steps of each network, over --batch sequences of 256 bytes."""
    batch: Count = 64
    """Number of sequences of a training step, and scored at once."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the function that designs the study."""
        arguments = {
            "steps": self.training_steps,
            "batch": self.batch,
            "samples": self.samples,
            "seeds": self.seeds,
        }
        if self.budget == "quick":
            least = {"steps": 2, "batch": 2, "samples": 10, "seeds": 2}
            arguments = {key: min(value, least[key]) for key, value in arguments.items()}
            arguments |= {"network": QUICK_NETWORK, "blocks": (1, 256)}
        return arguments | {"first_seed": self.seed}


@dataclass
class MetricsStudyOptions(StudyOptions):
    """Measure what faults of samples do to each score."""

    samples: AtLeastTen = 500
    """Number of samples in a set."""
    seeds: AtLeastTwo = 3
    """Number of sets with each fault at each strength."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the function that designs the study."""
        return {"seed": self.seed, "count": self.samples, "damaged": self.seeds}


@dataclass
class UnderstandingStudyOptions(TrainingStudyOptions):
    """Compare classifiers and probes that start from generators with the same network from scratch."""

    seeds: AtLeastTwo = 3
    """Number of seeds: of generators, of the choice of labelled digits and of training; verdicts on the
    claims of the paper need five."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the function that designs the study."""
        return {"first_seed": self.seed, "seeds": self.seeds, "quick": self.budget == "quick"}


@dataclass
class ChoiceStudyOptions(TrainingStudyOptions):
    """Choose learning rate, steps and augmentation for the study of understanding, on training digits."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the function that designs the study."""
        return {"first_seed": self.seed, "quick": self.budget == "quick"}


@dataclass
class TimeStudyOptions(BudgetedStudyOptions):
    """Time the sampling of sequences of several lengths in several numbers of blocks, without training."""

    rounds: AtLeastTwo = 5
    """Number of times that each setting is timed; verdicts need five."""
    steps: SamplingSteps = 10
    """Sampling steps per block."""
    size: Literal["S", "B", "L", "XL", "H"] | None = None
    """Named size of the network; default: two layers of hidden size 128."""
    device: str | None = None
    """Device, such as cpu or cuda; default: a GPU if there is one."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the network."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the function that designs the study."""
        import torch

        from .open_model import device_of

        quick = self.budget == "quick"
        return {
            "seed": self.seed,
            "rounds": min(self.rounds, 2) if quick else self.rounds,
            "steps": min(self.steps, 2) if quick else self.steps,
            "size": self.size,
            "device": device_of(self.device),
            "dtype": getattr(torch, self.dtype),
            "quick": quick,
        }


@dataclass
class ReportOptions(Ranged):
    """Write the page of the paper's claims from the measurements of the studies."""

    section: ClassVar[str] = "--"

    out: str = "docs/reproduction.md"
    """Page to write."""
    studies: str = "docs/studies"
    """Folder of measurements, one folder for each study."""

    def __post_init__(self) -> None:
        super().__post_init__()
        option_suffix(".md", out=self.out)


@dataclass
class DigitStudyOptions(TrainingStudyOptions):
    """Train generators of digits and compare the quality and the cost of what they draw."""

    seeds: AtLeastTwo = 5
    """Number of seeds of training and sampling; verdicts need five."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the function that designs the study."""
        seeds = self.seeds if self.budget == "full" else min(self.seeds, 2)
        return {"budget": self.budget, "first_seed": self.seed, "seeds": seeds}


@dataclass
class VideoStudyOptions(DigitStudyOptions):
    """Train generators of clips in more and in fewer blocks, and compare what they draw and continue."""


@dataclass
class BaselineChoiceStudyOptions(TrainingStudyOptions):
    """Choose the learning rate of each baseline, on a seed that the study of baselines does not report."""

    data: Literal["digits", "mnist"] = "digits"
    """Data: 8x8 digits of scikit-learn (digits), or 32x32 digits of MNIST (mnist), which take longer."""

    def folder(self, name: str) -> Path:
        """Return the folder that the study of a name writes."""
        return super().folder(folder_of_data(name, self.data))

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the function that designs the study."""
        return {"budget": budget_of_data(self.budget, self.data), "first_seed": self.seed}


@dataclass
class DigitDataStudyOptions(DigitStudyOptions):
    """Train generators of digits and compare the quality and the cost of what they draw."""

    data: Literal["digits", "mnist"] = "digits"
    """Data: 8x8 digits of scikit-learn (digits), or 32x32 digits of MNIST (mnist), which take longer."""

    def folder(self, name: str) -> Path:
        """Return the folder that the study of a name writes."""
        return super().folder(folder_of_data(name, self.data))

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the function that designs the study."""
        return super().arguments() | {"budget": budget_of_data(self.budget, self.data)}


def folder_of_data(name: str, data: str) -> str:
    """Return the name of the folder of a study: studies of MNIST do not mix with those of 8x8 digits."""
    return name if data == "digits" else f"{name}-{data}"


def budget_of_data(budget: str, data: str) -> str:
    """Return the name of the budget of the studies on digits for some data.

    Raises:
        UserError: if there is none.
    """
    if data == "digits":
        return budget
    if budget == "quick":
        raise UserError(f"--budget quick is for 8x8 digits: leave out --data {data}")
    return f"{budget}-{data}"
