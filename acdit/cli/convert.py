"""`acdit convert`: convert published checkpoints to pipeline directories and back."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..utils.checks import option_suffix
from ..utils.errors import UserError
from .command import PlainCommand


@dataclass
class ConvertOptions:
    """Convert a published checkpoint to a pipeline directory, or a model to a published checkpoint."""

    section: ClassVar[str] = "--"

    source: str | None = None
    """Checkpoint, such as ACDiT-XL-img.pt; with --to-published a pipeline directory or a training run."""
    out: str | None = None
    """Directory to write; with --to-published the .pt file."""
    ema: bool = False
    """Use the moving average of the weights, which the checkpoint must hold."""
    vae: str | None = None
    """Autoencoder (AutoencoderKL) to store with the network: a name on the hub, or a folder."""
    to_published: bool = False
    """Write the format of the published code; only for networks with its rotary embedding."""

    def __post_init__(self) -> None:
        if self.source is None or self.out is None:
            raise UserError("convert needs a source and --out: acdit convert CHECKPOINT.pt --out DIR")
        if self.to_published:
            option_suffix(".pt", out=self.out)
            if self.ema or self.vae is not None:
                raise UserError("--to-published cannot be combined with --ema or --vae")


def run(options: ConvertOptions) -> None:
    """Convert the source, and print the path of the result."""
    from ..published.convert import convert_checkpoint, publish
    from ..utils.files import only_writer

    assert options.source is not None and options.out is not None  # checked in __post_init__
    source, out = Path(options.source), Path(options.out)
    with only_writer(out, "acdit convert", folder=not options.to_published):
        if options.to_published:
            publish(source, out)
        else:
            convert_checkpoint(source, out, ema=options.ema, vae=options.vae, report=print)
    print(f"{source} was converted to {out}")


COMMAND = PlainCommand(
    name="convert",
    summary="published weights",
    arguments="SOURCE --out PATH",
    brief="acdit convert xl.pt --out models/xl",
    example="acdit convert ACDiT-XL-img.pt --out models/xl --vae stabilityai/sd-vae-ft-ema",
    options=ConvertOptions,
    positional="source",
    run=run,
)
