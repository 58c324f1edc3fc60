"""`acdit doctor`: report what this machine has, what will be used and why, and check its computations."""

import json
from dataclasses import asdict, dataclass
from typing import ClassVar

from ..utils.errors import UserError
from .command import PlainCommand


@dataclass
class DoctorOptions:
    """Report what this machine has, what will be used and why, and check that it computes correctly."""

    section: ClassVar[str] = "--"

    device: str | None = None
    """Device, such as cpu or cuda; default: a GPU if there is one."""
    json: bool = False
    """Print the findings as JSON."""


def run(options: DoctorOptions) -> None:
    """Print the findings.

    Raises:
        UserError: after the report, if a check failed.
    """
    from ..bench.doctor import examine, format_findings
    from .open_model import device_of

    findings = examine(device_of(options.device))
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print(format_findings(findings))
    failed = [finding.subject for finding in findings if finding.state == "FAILED"]
    if failed:
        raise UserError(f"these checks failed: {', '.join(failed)}; another version of torch may pass them")


COMMAND = PlainCommand(
    name="doctor",
    summary="check this machine",
    example="acdit doctor --device cuda",
    options=DoctorOptions,
    run=run,
)
