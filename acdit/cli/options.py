"""What the commands take that need neither a recipe nor a run of a model, typed. Free of torch."""

from dataclasses import dataclass, field

from ..model.layout import parse_dims
from ..utils.checks import option_suffix
from ..utils.errors import UserError


@dataclass
class InfoOptions:
    """Parameters, layout, sequence length, forward FLOPs and cache bytes of a model."""

    model: str | None = None
    """A pipeline directory, a training run, or mnist, moving-digits or shakespeare, the models in the
    package; mnist when left out."""
    block: str | None = None
    """Block size in tokens, such as 4x4; the model's own when left out."""
    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self) -> None:
        if self.block is not None:
            parse_dims(self.block, "--block")


@dataclass
class ConvertOptions:
    """Turn a published checkpoint into a pipeline directory, or a model into a published checkpoint."""

    source: str | None = None
    """A checkpoint such as ACDiT-XL-img.pt; with --to-published a pipeline directory or a training run."""
    out: str | None = None
    """The directory to write; with --to-published the .pt file."""
    ema: bool = False
    """Take the moving average of the weights, where the checkpoint holds one."""
    vae: str | None = None
    """Autoencoder (AutoencoderKL) to put beside the network: a name on the hub, or a folder."""
    to_published: bool = False
    """Write the format of the published code, for a network with its rotary embedding."""

    def __post_init__(self) -> None:
        if self.source is None or self.out is None:
            raise UserError("convert needs a source and a target: acdit convert CHECKPOINT.pt --out DIR")
        if self.to_published:
            option_suffix(".pt", out=self.out)
            if self.ema or self.vae is not None:
                raise UserError("--to-published takes neither --ema nor --vae")


@dataclass
class TokenizerOptions:
    """Learn a byte-level BPE tokeniser from texts, for --data.tokenizer of a training."""

    source: str | None = None
    """`shakespeare`, a text file, a folder of them, or a Hugging Face data set."""
    size: int = 4096
    """Ids, the 256 bytes and the end included; fewer where the texts give no more."""
    split: str = "train"
    """Split of a Hugging Face data set."""
    text_column: str | None = None
    """Its column of texts; found by its type when left out."""
    out: str = "tokenizer.json"
    """The file to write."""

    def __post_init__(self) -> None:
        if self.source is None:
            raise UserError("tokenizer needs texts: acdit tokenizer shakespeare --size 1024 --out bpe.json")
        option_suffix(".json", out=self.out)


@dataclass
class CurvesOptions:
    """Draw loss, learning rate and throughput of training runs, and their validations, in one picture."""

    runs: list[str] = field(default_factory=list)
    """Directories of training runs, or their log.jsonl."""
    smooth: float = 0.98
    """Weight of an entry of the log in the mean of the one beside it, from 0 (not smoothed) to below 1."""
    out: str = "curves.png"
    """The .png to write."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("curves needs at least one training run: acdit curves runs/mnist")
        if not 0 <= self.smooth < 1:
            raise UserError(f"--smooth must be at least 0 and below 1, not {self.smooth}")
        option_suffix(".png", out=self.out)


@dataclass
class DoctorOptions:
    """Say what this machine has, what will be used and why, and check that it computes correctly."""

    device: str | None = None
    """Such as cpu or cuda; a GPU where there is one, when left out."""
    json: bool = False
    """Print JSON."""
