"""`acdit tokenizer`: learn a byte-level BPE tokenizer from texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..utils.checks import option_suffix
from ..utils.errors import UserError
from ..utils.ranges import Count, Ranged
from .command import PlainCommand


@dataclass
class TokenizerOptions(Ranged):
    """Learn a byte-level BPE tokeniser from texts, for --data.tokenizer of a training."""

    section: ClassVar[str] = "--"

    source: str | None = None
    """`shakespeare`, a text file, a folder of them, or a Hugging Face data set."""
    size: Count = 4096
    """Ids, the 256 bytes and the end included; fewer where the texts give no more."""
    split: str = "train"
    """Split of a Hugging Face data set."""
    text_column: str | None = None
    """Its column of texts; found by its type when left out."""
    out: str = "tokenizer.json"
    """The file to write."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source is None:
            raise UserError("tokenizer needs texts: acdit tokenizer shakespeare --size 1024 --out bpe.json")
        option_suffix(".json", out=self.out)


def run(options: TokenizerOptions) -> None:
    """Learn the tokenizer, and write it."""
    from ..data.config import DataConfig
    from ..data.texts import read_texts
    from ..data.tokenizers import train_tokenizer
    from ..utils.files import check_writable

    assert options.source is not None  # the options were checked
    out = Path(options.out)
    check_writable(out)
    config = DataConfig(source=options.source, split=options.split, text_column=options.text_column)
    tokenizer = train_tokenizer(read_texts(config), options.size)
    tokenizer.save(out)
    print(f"{out}: {tokenizer.size:,} ids, the end included")


COMMAND = PlainCommand(
    name="tokenizer",
    summary="tokens to train on",
    arguments="TEXTS",
    example="acdit tokenizer shakespeare --size 1024 --out bpe.json",
    options=TokenizerOptions,
    positional="source",
    run=run,
)
