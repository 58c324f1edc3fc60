"""`acdit study`: run a study of the table `STUDIES`, list what it would measure, or write the page."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..studies.study import ENTRIES, REPORT, STUDIES, Study, StudyReport, study_named
from ..utils.errors import UserError, in_words
from ..utils.help_format import help_text, wrapped
from ..utils.references import load_object
from ..utils.settings import build, read_arguments
from .command import Command
from .study_options import ReportOptions, StudyOptions, TrainingStudyOptions

if TYPE_CHECKING:
    from ..studies.design import Design


@dataclass(frozen=True, kw_only=True)
class StudyCommand(Command):
    """Command whose first argument is the name of a study, and whose options are those of that study.

    Attributes:
        run: function that runs a study, or writes the page about all of them.
    """

    run: Callable[[Study | StudyReport, Any], None]

    def main(self, argv: list[str]) -> None:
        """Choose the study, parse the arguments with its options, and run it."""
        if not argv or argv[0].startswith("-"):
            raise UserError(f"study needs a name: acdit study {in_words(ENTRIES, 'or')}")
        study = study_named(argv[0])
        options = options_of(study)
        self.run(study, build(options, read_arguments(options, argv[1:])))

    def help(self, argv: list[str]) -> str:
        """Return the help of the study that the arguments name, or the list of the studies."""
        if argv and not argv[0].startswith("-"):
            study = study_named(argv[0])
            return help_text(options_of(study), f"acdit study {study.name}", study.example)
        named = [
            wrapped(f"  {entry.name:24}{entry.summary}", " " * 26) for entry in (*STUDIES.values(), REPORT)
        ]
        listed = "\n".join(named[:-1]) + f"\n\n{named[-1]}"
        more = "`acdit study NAME --help` lists the options of a study."
        return help_text(StudyOptions, "acdit study NAME", f"{self.example}\n\nstudies:\n{listed}\n\n{more}")

    def option_classes(self) -> list[type]:
        """Return the dataclasses of the options, one for each study and one for the page."""
        return [options_of(entry) for entry in ENTRIES.values()]


def options_of(entry: Study | StudyReport) -> type[Any]:
    """Return the class of the options of a study, or of the page."""
    return cast(type[Any], load_object(entry.options))


def run(entry: Study | StudyReport, options: StudyOptions | ReportOptions) -> None:
    """Run a study, or write the page."""
    if isinstance(entry, StudyReport):
        cast("Callable[[Any], None]", load_object(entry.write))(options)
    else:
        run_declared(entry, cast(StudyOptions, options))


def write_report(options: ReportOptions) -> None:
    """Write the page of the paper's claims, and print its summary."""
    from ..studies.claims import CLAIMS
    from ..studies.reproduction import read_findings, summary_table, write_page
    from ..studies.reproduction_plot import plot_findings
    from ..utils.files import check_writable

    page, studies = Path(options.out), Path(options.studies)
    plot = page.with_suffix(".png")
    check_writable(page)
    if not studies.is_dir():
        raise UserError(f"--studies must be a folder of measurements, and {studies} is none")
    findings = read_findings(CLAIMS, studies)
    plot_findings(findings, plot)
    write_page(findings, page, plot)
    print(summary_table(findings))
    print(f"written: {page}, {plot}")


def run_declared(study: Study, options: StudyOptions) -> None:
    """Train and measure what is missing, print the table, and write it with the plots."""
    from ..utils.files import check_writable
    from ..utils.ranks import leave_launcher, local_world_size

    folder = options.folder(study.name)
    check_writable(folder / "measurements.json")
    processes = local_world_size()
    ranks = leave_launcher()
    if not ranks.main:
        return  # the first rank starts one process for each rank

    from ..studies.design import run_study
    from ..studies.dry_run import describe_study

    design = cast("Callable[..., Design]", load_object(study.design))(**options.arguments())
    if options.dry_run:
        print(describe_study(design, folder, refresh=options.refresh))
        return
    jobs = options.jobs if isinstance(options, TrainingStudyOptions) else 1
    result = run_study(design, folder, jobs=max(jobs, processes), refresh=options.refresh)
    if result is not None:
        print(result.report)
        print(f"written: {', '.join(map(str, result.files))}")


COMMAND = StudyCommand(
    name="study",
    summary="run a study",
    arguments="NAME",
    brief="acdit study sampling",
    example="acdit study sampling --samples 500 --seeds 3 --out out/study",
    run=run,
)
