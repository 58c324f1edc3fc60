"""Table of studies by name. Does not import torch."""

from dataclasses import dataclass

from ..utils.errors import UserError
from ..utils.settings import nearest


@dataclass(frozen=True)
class Study:
    """Declaration of a study.

    Attributes:
        name: name that the user types.
        summary: description in a few words.
        design: import string of the function that returns the `Design` of the study: its training runs,
            measurements and report.
        options: import string of the class of the options; its method `arguments` returns the arguments of
            `design`.
        example: command line that the help shows.
    """

    name: str
    summary: str
    design: str
    options: str
    example: str


@dataclass(frozen=True)
class StudyReport:
    """Declaration of a page about the measurements of all studies.

    Attributes:
        name: name that the user types in place of that of a study.
        summary: description in a few words.
        write: import string of the function that is called with the options and writes the page.
        options: import string of the class of the options.
        example: command line that the help shows.
    """

    name: str
    summary: str
    write: str
    options: str
    example: str


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        Study(
            "sampling",
            "quality against cost of solvers, numbers of steps and guidance, on digits",
            "acdit.studies.sampling:sampling_design",
            "acdit.cli.study_options:SamplingStudyOptions",
            "acdit study sampling --samples 500 --seeds 3 --out out/study",
        ),
        Study(
            "text",
            "likelihood of text against block size, masks and order of revealing",
            "acdit.studies.text:text_design",
            "acdit.cli.study_options:TextStudyOptions",
            "acdit study text --batch 16 --training-steps 350 --seeds 5 --dry-run",
        ),
        Study(
            "metrics",
            "effects of faults of samples on each score",
            "acdit.studies.metric_faults:metrics_design",
            "acdit.cli.study_options:MetricsStudyOptions",
            "acdit study metrics --seeds 2",
        ),
        Study(
            "intervals",
            "coverage of the intervals of scores, on simulated sets",
            "acdit.studies.intervals:intervals_design",
            "acdit.cli.study_options:StudyOptions",
            "acdit study intervals",
        ),
        Study(
            "time",
            "time and FLOPs of sampling against the number of blocks, up to 16k tokens",
            "acdit.studies.sampling_time:time_design",
            "acdit.cli.study_options:TimeStudyOptions",
            "acdit study time --device cpu",
        ),
        Study(
            "blocks",
            "quality of digits against number of blocks and sequence length",
            "acdit.studies.blocks:blocks_design",
            "acdit.cli.study_options:DigitDataStudyOptions",
            "acdit study blocks --jobs 2 --dry-run",
        ),
        Study(
            "scaling",
            "quality of digits against size of the network and number of blocks",
            "acdit.studies.scaling:scaling_design",
            "acdit.cli.study_options:DigitStudyOptions",
            "acdit study scaling --jobs 2 --dry-run",
        ),
        Study(
            "decay",
            "quality of digits before, in and after the decay of the learning rate",
            "acdit.studies.decay:decay_design",
            "acdit.cli.study_options:DigitStudyOptions",
            "acdit study decay --jobs 2 --dry-run",
        ),
        Study(
            "ablation",
            "quality of digits with other positions, and with a noised past",
            "acdit.studies.ablation:ablation_design",
            "acdit.cli.study_options:DigitStudyOptions",
            "acdit study ablation --jobs 2 --dry-run",
        ),
        Study(
            "baselines",
            "quality and cost of digits against full-sequence and token-wise baselines",
            "acdit.studies.baselines:baselines_design",
            "acdit.cli.study_options:DigitDataStudyOptions",
            "acdit study baselines --jobs 2 --dry-run",
        ),
        Study(
            "baselines-settings",
            "choice of the learning rates of the study of baselines",
            "acdit.studies.baseline_choice:baseline_choice_design",
            "acdit.cli.study_options:BaselineChoiceStudyOptions",
            "acdit study baselines-settings --jobs 2 --dry-run",
        ),
        Study(
            "anyblock",
            "one network for all block sizes against one network for each, on digits",
            "acdit.studies.anyblock:anyblock_design",
            "acdit.cli.study_options:DigitDataStudyOptions",
            "acdit study anyblock --jobs 2 --dry-run",
        ),
        Study(
            "context",
            "quality of digits against noise on the past and the length of a window",
            "acdit.studies.context:context_design",
            "acdit.cli.study_options:DigitStudyOptions",
            "acdit study context --jobs 2 --dry-run",
        ),
        Study(
            "video",
            "video in more and in fewer blocks, with small moving digits (Fig. 4)",
            "acdit.studies.video:video_design",
            "acdit.cli.study_options:VideoStudyOptions",
            "acdit study video --jobs 2 --dry-run",
        ),
        Study(
            "understanding",
            "recognition by generators with few labels, and by networks from scratch",
            "acdit.studies.understanding:understanding_design",
            "acdit.cli.study_options:UnderstandingStudyOptions",
            "acdit study understanding --jobs 2 --dry-run",
        ),
        Study(
            "understanding-settings",
            "choice of the settings of the study of understanding",
            "acdit.studies.understanding_choice:choice_design",
            "acdit.cli.study_options:ChoiceStudyOptions",
            "acdit study understanding-settings --jobs 2",
        ),
    )
}


REPORT = StudyReport(
    "report",
    "page of the paper's claims, from measurements of the studies",
    "acdit.cli.study:write_report",
    "acdit.cli.study_options:ReportOptions",
    "acdit study report --out docs/reproduction.md",
)
ENTRIES: dict[str, Study | StudyReport] = {**STUDIES, REPORT.name: REPORT}


def study_named(name: str) -> Study | StudyReport:
    """Return the study of a name, or the page about all of them.

    Raises:
        UserError: if there is none; the message names the nearest one.
    """
    if name not in ENTRIES:
        raise UserError(
            f"unknown study {name!r}; did you mean {nearest(name, ENTRIES)[0]}? "
            f"The studies are {', '.join(STUDIES)}; {REPORT.name} writes the page about them"
        )
    return ENTRIES[name]
