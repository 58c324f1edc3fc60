"""Texts as sequences of tokens: documents of files or of a data set, joined by their ends and wrapped."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from ..errors import UserError
from ..tokenizers import Tokenizer
from .dataset import PixelDataset
from .sources import holds_tables, load_rows

if TYPE_CHECKING:
    from ..training.config import DataConfig

Documents = Sequence[Any]  # of each its ids, as an array or a list


class WrappedTexts(PixelDataset):
    """One stream of documents, each followed by its end, cut into sequences of one length.

    An item's `data` are ids (L,), int64. The last one is filled up with ends; `counts` says how many tokens
    of each are text.

    Args:
        documents: their ids; read when they are asked for.
        lengths: of the documents, (D,).
        length: L, of a sequence.
        eos: the id that ends a document.
    """

    def __init__(self, documents: Documents, lengths: Sequence[int] | np.ndarray, length: int, eos: int):
        self.documents, self.length, self.eos = documents, length, eos
        self.ends = np.cumsum(np.asarray(lengths, dtype=np.int64) + 1)  # of each with its end, in the stream
        total = int(self.ends[-1]) if len(self.ends) else 0
        rows = -(-total // length)
        self.channels, self.size, self.label_names = 1, (length,), ()
        self.labels = torch.zeros(rows, dtype=torch.long)
        self.counts = torch.full((rows,), length)
        if rows:
            self.counts[-1] = total - (rows - 1) * length

    def decode(self, index: int) -> torch.Tensor:
        first = index * self.length
        row = np.full(self.length, self.eos, dtype=np.int64)
        document = int(np.searchsorted(self.ends, first, side="right"))
        filled = 0
        while filled < self.length and document < len(self.ends):
            begins = int(self.ends[document - 1]) if document else 0
            ids = np.asarray(self.documents[document], dtype=np.int64)[first + filled - begins :]
            part = ids[: self.length - filled]
            row[filled : filled + len(part)] = part
            filled = int(self.ends[document]) - first  # its end included, which stands there already
            document += 1
        return torch.from_numpy(row)


def open_texts(config: "DataConfig", tokenizer: Tokenizer, length: int) -> WrappedTexts:
    """The texts that `config.source` names: a file, a folder of files, or a data set with a column of texts.

    Every file is a document, and so is every row.

    Raises:
        UserError: for no text, a file that is empty or not UTF-8, or a source that cannot be loaded.
    """
    path = Path(config.source).expanduser()
    if path.is_file() or (path.is_dir() and not holds_tables(path)):
        files = [path] if path.is_file() else sorted(file for file in path.rglob("[!.]*") if file.is_file())
        if not files:
            raise UserError(f"data.source {config.source} is empty; it should hold text files")
        shown = tqdm(files, desc="reading texts", unit="file", delay=2, leave=False)
        ids = [np.asarray(tokenizer.encode(read_text(file)), dtype=np.int32) for file in shown]
        return WrappedTexts(ids, [len(each) for each in ids], length, tokenizer.eos)
    rows = load_rows(config)
    column = _text_column(rows, config.text_column)

    def encoded(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        made = [tokenizer.encode(text or "") for text in batch[column]]
        return {"ids": made, "count": [len(each) for each in made]}

    tokens = rows.map(encoded, batched=True, remove_columns=rows.column_names, desc="tokenising")
    counts = np.asarray(tokens["count"][:], dtype=np.int64)
    if not counts.sum():
        raise UserError(f"data.source {config.source} holds no text in its column {column!r}")
    return WrappedTexts(tokens.with_format("numpy", columns=["ids"])["ids"], counts, length, tokenizer.eos)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        UserError: if it is empty or not UTF-8.
    """
    content = path.read_bytes()
    if not content:
        raise UserError(f"{path} is empty: remove it")
    try:
        return content.decode()
    except UnicodeDecodeError as fault:
        strange = content[fault.start]
        raise UserError(
            f"{path} is not UTF-8: byte 0x{strange:02x} at {fault.start:,}; convert or remove it"
        ) from fault


def _text_column(rows: Any, named: str | None) -> str:
    """The named column, or the only one of texts."""
    texts = [
        name
        for name, feature in rows.features.items()
        if getattr(feature, "dtype", "") in ("string", "large_string")
    ]
    if named is None and len(texts) == 1:
        return texts[0]
    if named is None or named not in texts:
        what = "must be named" if named is None else f"{named!r} is no column of texts"
        raise UserError(f"data.text_column {what}; there are: {', '.join(texts) or 'none'}")
    return named
