"""`acdit tokenizer`: train a byte-level BPE tokenizer on texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..utils.checks import option_suffix
from ..utils.errors import UserError
from ..utils.ranges import Count, Ranged
from .command import PlainCommand


@dataclass
class TokenizerOptions(Ranged):
    """Train a byte-level BPE tokenizer on texts, for --data.tokenizer of a training run."""

    section: ClassVar[str] = "--"

    source: str | None = None
    """Texts: `shakespeare`, a file of text, a table (.jsonl, .csv, .parquet), a folder of such files, or a
    Hugging Face data set."""
    size: Count = 4096
    """Maximum number of ids, including the 256 bytes and the end token; the texts may give fewer."""
    split: str = "train"
    """Split of a Hugging Face data set."""
    text_column: str | None = None
    """Column of a table or a Hugging Face data set that holds texts; default: the only column of texts."""
    out: str = "tokenizer.json"
    """JSON file to write."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source is None:
            raise UserError("tokenizer needs texts: acdit tokenizer shakespeare --size 1024 --out bpe.json")
        option_suffix(".json", out=self.out)


def run(options: TokenizerOptions) -> None:
    """Train the tokenizer, and write it to a file."""
    from ..data.config import DataConfig
    from ..data.texts import read_texts
    from ..data.tokenizers import train_tokenizer
    from ..utils.files import only_writer

    assert options.source is not None  # checked in __post_init__
    out = Path(options.out)
    config = DataConfig(source=options.source, split=options.split, text_column=options.text_column)
    with only_writer(out, "acdit tokenizer"):
        tokenizer = train_tokenizer(read_texts(config), options.size)
        tokenizer.save(out)
    print(f"{out}: {tokenizer.size:,} ids, including the end token")


COMMAND = PlainCommand(
    name="tokenizer",
    summary="tokens to train on",
    arguments="TEXTS",
    brief="acdit tokenizer my-texts",
    example="acdit tokenizer shakespeare --size 1024 --out bpe.json",
    options=TokenizerOptions,
    positional="source",
    keys={"data.source": "", "data.split": "--split", "data.text_column": "--text-column"},
    run=run,
)
