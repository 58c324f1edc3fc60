"""Page of the paper's claims: what the paper says, what the measurements say, the verdicts, and full size.

Every number comes from measurements, from the figures that a claim cites, or from the plan of a training run.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..evaluation.report import format_table
from ..training.config import RANK_FLOPS
from ..training.plan import make_plan
from ..training.recipes import load_recipe
from ..utils.errors import UserError
from ..utils.files import whole
from .claim import Claim, Evidence, FullRun
from .measurements import FILE, StoredMeasurements, markdown_table, same_evaluator
from .verdicts import (
    CONFIRMED,
    NOT_LEARNED,
    NOT_MEASURED,
    REFUTED,
    UNDECIDED,
    Comparison,
    Verdict,
    conclude,
    count_words,
)

VERDICTS: tuple[Verdict, ...] = (CONFIRMED, REFUTED, UNDECIDED, NOT_LEARNED, NOT_MEASURED)
RANKS = (8, 256)  # H100s of the plans
INTRODUCTION = """\
Written by `acdit study report` from the measurements in the folder [studies](studies), not by hand. A claim
is tested by comparisons that are paired by seed, with 95% t intervals over at least five seeds. What a claim
expects, and every margin, was committed before the runs, unless its test says otherwise;
[Studies](studies.md#claims-and-verdicts) has the rules. Networks are of laptop size: a verdict is one on the
claim at this size, not on the paper's figures."""


@dataclass(frozen=True)
class Tested:
    """Evidence of a claim with its measurements.

    Attributes:
        evidence: the evidence.
        folder: folder of the measurements.
        stored: the measurements; None if there are none.
        comparisons: comparisons of the claim.
    """

    evidence: Evidence
    folder: Path
    stored: StoredMeasurements | None
    comparisons: tuple[Comparison, ...]

    @property
    def verdict(self) -> Verdict:
        """Return the verdict of this evidence alone."""
        return conclude(self.comparisons)


@dataclass(frozen=True)
class Finding:
    """Claim with what was measured of it."""

    claim: Claim
    tested: tuple[Tested, ...]

    @property
    def comparisons(self) -> list[Comparison]:
        """Return the comparisons of all evidence that is measured."""
        return [comparison for each in self.tested for comparison in each.comparisons]

    @property
    def verdict(self) -> Verdict:
        """Return the verdict on the claim; evidence without measurements does not count."""
        return conclude(self.comparisons)

    @property
    def data(self) -> str:
        """Return what was measured, and what was not if only a part was, in words."""
        measured = [each.evidence.data for each in self.tested if each.stored is not None]
        missing = [each.evidence.data for each in self.tested if each.stored is None]
        apart = f"; not on {' and '.join(missing)}" if measured and missing else ""
        return f"{' and '.join(measured)}{apart}"


def read_findings(claims: Sequence[Claim], studies: Path) -> list[Finding]:
    """Return the claims with the comparisons that the measurements in a folder allow.

    Args:
        claims: the claims.
        studies: folder that holds a folder for each study.

    Raises:
        UserError: if measurements are damaged.
    """
    stored: dict[Path, StoredMeasurements | None] = {}

    def tested(evidence: Evidence) -> Tested:
        folder = studies / evidence.folder
        if folder not in stored:
            path = folder / FILE
            stored[folder] = StoredMeasurements.read(path) if path.exists() else None
        found = stored[folder]
        if found is not None:
            _check_setting(found, evidence, folder / FILE)
        comparisons = evidence.comparisons(found.rows if found else ())
        return Tested(evidence, folder, found if comparisons else None, tuple(comparisons))

    return [Finding(claim, tuple(map(tested, claim.evidence))) for claim in claims]


def _check_setting(found: StoredMeasurements, evidence: Evidence, path: Path) -> None:
    """Raise UserError unless measurements are those of the command of the evidence, and can be compared."""
    if not same_evaluator(found.rows):
        raise UserError(
            f"{path} holds rows that different fits of the evaluator have scored: measure them again with "
            f"`{evidence.command} --refresh`"
        )
    if found.study not in ("", evidence.study):
        raise UserError(f"{path} holds measurements of the study {found.study}, not of {evidence.study}")
    for key, value in evidence.setting.items():
        if found.setting.get(key) != value:
            raise UserError(
                f"{path} holds measurements with {key} {found.setting.get(key)}, but those of the page, by "
                f"`{evidence.command}`, have {value}: move them to another folder"
            )


def write_page(findings: Sequence[Finding], page: Path, plot: Path | None = None) -> None:
    """Write the page.

    Args:
        findings: claims with their comparisons.
        page: path of the page.
        plot: plot of all verdicts, for the summary.
    """
    with whole(page) as temporary_path:
        temporary_path.write_text(page_text(findings, page.parent, plot))


def page_text(findings: Sequence[Finding], folder: Path, plot: Path | None = None) -> str:
    """Return the page.

    Args:
        findings: claims with their comparisons.
        folder: folder of the page, from which links lead to the measurements.
        plot: plot of all verdicts, for the summary.
    """
    lines = ["# The paper's claims, measured again", "", INTRODUCTION, "", "## Summary", ""]
    lines += [_counts(findings), ""]
    if plot is not None:
        lines += [f"![The verdict on each claim]({_place(plot, folder)})", ""]
    lines += [*markdown_table(_summary(findings, links=True)), ""]
    for finding in findings:
        lines += [f'<a id="{finding.claim.name}"></a>', "", *_section(finding, folder)]
    lines += ["## Not run", "", *_not_run(findings), ""]
    return "\n".join(lines)


def summary_table(findings: Sequence[Finding]) -> str:
    """Return the summary for a terminal: the number of claims by verdict, and a line for each claim."""
    return f"{format_table(_summary(findings, links=False))}\n{_counts(findings)}"


def _summary(findings: Sequence[Finding], *, links: bool) -> list[dict[str, str]]:
    """Return a line for each claim."""
    return [
        {
            "claim": f"[{finding.claim.title}](#{finding.claim.name})" if links else finding.claim.title,
            "source": finding.claim.source,
            "verdict": f"**{finding.verdict}**" if links else finding.verdict,
            "measured on": finding.data,
            "comparisons": _tally(finding.comparisons),
        }
        for finding in findings
    ]


def _counts(findings: Sequence[Finding]) -> str:
    """Return the number of claims, and of comparisons, by verdict."""
    verdicts = [finding.verdict for finding in findings]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS)
    comparisons = sum(len(finding.comparisons) for finding in findings)
    return f"{len(findings)} claims: {counts}. {comparisons} comparisons in all."


def _tally(comparisons: Sequence[Comparison]) -> str:
    """Return the number of comparisons by verdict, such as `2 confirmed, 1 undecided`."""
    found = [comparison.verdict for comparison in comparisons]
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in found)


def _section(finding: Finding, folder: Path) -> list[str]:
    """Return the lines of the section of a claim."""
    claim = finding.claim
    place = f" on {finding.data}" if finding.data else ""
    lines = [f"## {claim.title}", "", f"**{finding.verdict.capitalize()}**{place}", ""]
    lines += [
        f"{'This package' if claim.source == 'ours' else f'The paper ({claim.source})'}: {claim.said}",
        "",
    ]
    lines += [f"Test: {claim.tested}", ""]
    for tested in finding.tested:
        lines += _evidence(tested, folder)
    lines += [f"What laptop size cannot show: {claim.beyond}", ""]
    if claim.full_command:
        lines += [f"At full size: `{claim.full_command}`", ""]
    if claim.full:
        lines += [*markdown_table([_cost(run) for run in claim.full]), ""]
    return lines


def _evidence(tested: Tested, folder: Path) -> list[str]:
    """Return the comparisons and the plot of some evidence."""
    evidence = tested.evidence
    if tested.stored is None:
        return [f"Not run: `{evidence.command}`", ""]
    place = _place(tested.folder, folder)
    versions = f", by acdit {', '.join(tested.stored.versions)}" if tested.stored.versions else ""
    words = f"`{evidence.command}`{versions} ([measurements]({place})): **{tested.verdict}**."
    rows = [comparison.row() for comparison in tested.comparisons]
    lines = [words, "", count_words(tested.comparisons, evidence.pairs), "", *markdown_table(rows), ""]
    if (tested.folder / evidence.plot).is_file():
        lines += [f"![{evidence.command}]({place}/{evidence.plot})", ""]
    return lines


def _place(path: Path, folder: Path) -> str:
    """Return a path as a link from a page in a folder."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _cost(run: FullRun) -> dict[str, str]:
    """Return a training run at full size, with the hours that it takes."""
    values = tuple({**run.overrides, **run.planned}.items())
    hours = {f"hours on {ranks} H100s": f"{_planned(run.recipe, values, ranks)[1]:,.0f}" for ranks in RANKS}
    flops, _ = _planned(run.recipe, values, RANKS[0])
    return {"full-size run": f"`{run.command}`", "FLOPs": f"{flops:.3g}", **hours}


@cache
def _planned(name: str, values: tuple[tuple[str, str | None], ...], ranks: int) -> tuple[float, float]:
    """Return the FLOPs and the hours of a training run on a number of H100s."""
    plan = make_plan(load_recipe(name, **dict(values)), ranks=ranks)
    if plan.total_flops is None or plan.hours is None:
        raise ValueError(f"the run {name} with {dict(values)} cannot be planned: {plan.problems}")
    return plan.total_flops, plan.hours


def _not_run(findings: Sequence[Finding]) -> list[str]:
    """Return what was not run, with its command."""
    commands = {
        tested.evidence.command: None
        for finding in findings
        for tested in finding.tested
        if tested.stored is None
    }
    full = {run.command: None for finding in findings for run in finding.claim.full}
    full |= {finding.claim.full_command: None for finding in findings if finding.claim.full_command}
    lines = [f"- `{command}`" for command in commands] or ["Every study was run."]
    note = (
        f"Nothing was run at full size. Hours are those of `acdit plan`, at {RANK_FLOPS:.3g} FLOP/s per H100:"
    )
    return [*lines, "", note, "", *(f"- `{command}`" for command in full)]
