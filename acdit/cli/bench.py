"""`acdit bench`: benchmark training and sampling against the published computation."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from ..bench.rows import BYTES, IMAGE_CHANNELS, IMAGE_STEPS, ROWS, SAMPLING_BATCH, Row, parse_layout
from ..utils.checks import option_at_least, option_suffix
from ..utils.errors import UserError, in_words, require
from ..utils.ranges import Count, Number, Ranged, SamplingSteps
from ..utils.settings import nearest
from .command import PlainCommand

USED_BY = {  # options that not every work uses
    "layers": ("train", "sample", "text"),
    "channels": ("train", "sample", "text"),
    "patch": ("train", "sample"),
    "classes": ("train", "sample"),
    "steps": ("sample", "text"),
    "guidance": ("sample",),
}


@dataclass
class BenchOptions(Ranged):
    """Time this package against the published computation and against the roofline."""

    section: ClassVar[str] = "--"

    work: Literal["train", "sample", "text", "attention"] | None = None
    """Work to time: train, a training step (forward, backward, clipping, AdamW, moving average); sample, the
    sampling of a batch; text, the generation of texts with and without the cache; attention, the
    attention of one layer; default: all four."""
    rows: list[str] | None = None
    """Named rows to run, such as train-4,sample-16; default: all rows of WORK."""
    layout: list[str] | None = None
    """Layouts of custom rows, grid/block in tokens, such as 32x32/16x16,32x32/8x8; default: named rows."""
    size: Literal["S", "B", "L", "XL", "H"] = "B"
    """Named size of the network."""
    layers: Count | None = None
    """Number of layers; default: that of the named size."""
    batch: Count | None = None
    """Number of samples in a batch; default: 1, or 2 for sampling."""
    channels: Count | None = None
    """Channels of a pixel or latent cell, default: 4; for text, vocabulary size, default: 258."""
    patch: Count = 1
    """Side of the patch in a token."""
    classes: Count = 1000
    """Number of classes of the network."""
    steps: SamplingSteps | None = None
    """Sampling steps per block; default: 8, for text the number of tokens of a block."""
    guidance: Number = 1.5
    """Scale of classifier-free guidance for sampling; 1 = none."""
    repeats: Count = 5
    """Number of measurements of every work item."""
    device: str | None = None
    """Device, such as cpu or cuda; default: a GPU if there is one."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision; for training, bfloat16 means autocast."""
    compile: bool = False
    """Also time training with the network's blocks compiled by torch.compile."""
    json: str | None = None
    """JSON file to write."""
    plot: str | None = None
    """PNG file to write: time against sequence length; needs --layout with several layouts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        option_suffix(".json", json=self.json)
        option_suffix(".png", plot=self.plot)
        if self.layout is None:
            self._check_named()
        else:
            self._check_own(self.layout)
        if self.compile and all(row.work != "train" for row in self.chosen()):
            raise UserError("--compile only applies to training: add the work `train`, or rows of training")

    def _check_named(self) -> None:
        """Raise UserError if other options conflict with named rows, which have settings of their own."""
        shape = ("size", "layers", "batch", "channels", "patch", "classes", "steps", "guidance")
        given = [f"--{name}" for name in shape if getattr(self, name) != getattr(BenchOptions, name)]
        if given:
            raise UserError(
                f"{', '.join(given)} must be given together with --layout GRID/BLOCK: named rows have "
                "fixed settings"
            )
        if self.plot is not None:
            raise UserError("--plot shows time against sequence length: add --layout with several layouts")
        for name in self.rows or ():
            if name not in ROWS:
                raise UserError(f"--rows has no {name!r}; did you mean {nearest(name, ROWS)[0]}?")
            if self.work not in (None, ROWS[name].work):
                raise UserError(f"--rows {name} is not a row of {self.work}: leave out {self.work}")
        if self.rows == []:
            raise UserError("--rows must name at least one row, such as train-4")

    def _check_own(self, layouts: list[str]) -> None:
        if self.work is None:
            raise UserError("--layout needs the work to time: acdit bench train --layout 32x32/16x16")
        if self.rows is not None:
            raise UserError(
                "--rows selects named rows and --layout defines custom rows: use only one of them"
            )
        if not layouts:
            raise UserError("--layout must name at least one layout, such as 32x32/16x16")
        for layout in layouts:
            parse_layout(layout, self.patch)
        if self.work == "text":
            option_at_least(2, channels=self.channels)  # an id and the mask
        for name, works in USED_BY.items():
            if self.work not in works and getattr(self, name) != getattr(BenchOptions, name):
                raise UserError(f"--{name} only applies to {in_words(works, 'and')}, not to {self.work}")
        if self.plot is not None and len({parse_layout(layout).num_tokens for layout in layouts}) < 2:
            raise UserError("--plot needs layouts of at least two sequence lengths in --layout")

    def chosen(self) -> list[Row]:
        """Return the rows to run, in order."""
        if self.layout is None:
            listed = self.rows or [name for name, row in ROWS.items() if self.work in (None, row.work)]
            return [ROWS[name] for name in listed]
        assert self.work is not None  # checked in __post_init__
        texts = self.work == "text"
        batch = self.batch or (SAMPLING_BATCH if self.work == "sample" else 1)
        channels = self.channels or (BYTES if texts else IMAGE_CHANNELS)
        steps = self.steps or (None if texts else IMAGE_STEPS)
        shape = (self.size, self.layers, batch, channels, self.patch, self.classes, steps)
        return [
            Row(f"{self.work} {layout}", self.work, layout, *shape, self.guidance) for layout in self.layout
        ]


def run(options: BenchOptions) -> None:
    """Run the rows, print each result when it is finished, then write the files."""
    import torch

    from ..bench.report import heading, plot, table_lines
    from ..bench.runs import Bench
    from ..bench.timing import machine
    from ..utils.files import check_writable, whole
    from .open_model import device_of

    written = [Path(path) for path in (options.json, options.plot) if path is not None]
    for path in written:
        check_writable(path)
    if options.plot is not None:
        require("matplotlib", "examples")
    device = device_of(options.device)
    facts = machine(device)
    print(heading(facts, options.repeats, options.dtype))
    bench = Bench(options.repeats, device, getattr(torch, options.dtype), options.compile)
    results = []
    for row in options.chosen():
        for result in bench.run(row):
            print(table_lines(result), flush=True)
            results.append(result)
        if options.json is not None:  # after each row, so that the next one cannot lose it
            rows = [result.to_json() for result in results]
            report = {"machine": facts, "dtype": options.dtype, "repeats": options.repeats, "rows": rows}
            with whole(Path(options.json)) as temporary_path:
                temporary_path.write_text(json.dumps(report, indent=2) + "\n")
    if options.plot is not None:
        plot(results, Path(options.plot))
    if written:
        print(f"written: {', '.join(map(str, written))}")


COMMAND = PlainCommand(
    name="bench",
    summary="benchmark speed",
    arguments="[WORK]",
    brief="acdit bench --rows train-4",
    example="acdit bench --rows train-4,sample-16 --json bench.json\n"
    "  acdit bench train --layout 16x16/8x8,32x32/16x16 --layers 2 --plot bench.png",
    options=BenchOptions,
    positional="work",
    run=run,
)
