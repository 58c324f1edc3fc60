"""`acdit curves`: plot the training curves of several runs in one picture."""

from dataclasses import dataclass, field
from os.path import abspath
from pathlib import Path
from typing import ClassVar

from ..utils.checks import option_suffix
from ..utils.errors import UserError
from ..utils.ranges import FractionBelowOne, Ranged
from .command import PlainCommand


@dataclass
class CurvesOptions(Ranged):
    """Plot loss, learning rate, throughput and validations of training runs in one picture."""

    section: ClassVar[str] = "--"

    runs: list[str] = field(default_factory=list)
    """Directories of training runs, or their log.jsonl files."""
    smooth: FractionBelowOne = 0.98
    """Smoothing factor, from 0 (not smoothed) to below 1."""
    out: str = "curves.png"
    """PNG file to write."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.runs:
            raise UserError("curves needs at least one training run: acdit curves runs/mnist")
        option_suffix(".png", out=self.out)


def run(options: CurvesOptions) -> None:
    """Plot the curves to a PNG file."""
    from ..training.curves import draw_curves
    from ..training.log import read_log
    from ..utils.files import check_writable, whole

    out = Path(options.out)
    check_writable(out)
    paths = [Path(run) for run in options.runs]
    folders = [path if path.is_dir() else path.parent for path in map(Path, map(abspath, options.runs))]
    short = len({folder.name for folder in folders}) == len(folders)
    names = [folder.name if short else str(path) for folder, path in zip(folders, paths, strict=True)]
    logs = {name: read_log(path) for name, path in zip(names, paths, strict=True)}
    figure = draw_curves(logs, options.smooth)
    with whole(out) as temporary_path:
        figure.savefig(temporary_path, format="png")
    drawn = ", ".join(f"{name} to step {log.steps[-1]['step']:,}" for name, log in logs.items())
    print(f"{out}: {drawn}")


COMMAND = PlainCommand(
    name="curves",
    summary="plot runs",
    arguments="RUN ...",
    brief="acdit curves runs/a runs/b",
    example="acdit curves runs/mnist runs/other --smooth 0.99 --out curves.png",
    options=CurvesOptions,
    positional="runs",
    run=run,
)
