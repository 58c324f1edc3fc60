"""Texts as sequences of tokens: documents of files or of a data set, joined by end tokens and wrapped."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..utils.errors import UserError
from ..utils.progress_bar import ProgressBar
from .config import DataConfig
from .data_sets import TEXT_SETS
from .dataset import PixelDataset
from .folders import Scan, holds_tables, scan_folder
from .identity import DataIdentity, identify
from .rows import load_rows
from .splits import is_text, split_folder
from .text_decoding import TABLES, choose_column, has_markup, read_documents
from .tokenizers import Tokenizer

Documents = Sequence[Any]  # token ids of each document, as an array or a list
PART = 2**20  # tokens whose bytes are counted at a time


class WrappedTexts(PixelDataset):
    """Data set of sequences of one length, cut from a stream of documents, each followed by an end token.

    The `data` of an item are ids (L,), int64. In the last sequence, padding after the text has the mask's id,
    so that objectives leave it out. `counts` holds the number of tokens of each sequence that are text.

    Args:
        documents: token ids of each document, read on access.
        lengths: number of tokens of each document, (D,).
        length: number of tokens of a sequence, L.
        tokenizer: tokenizer that produced the ids.
        text_bytes: size of the documents in UTF-8, in bytes: of each, (D,), or of all.
        read_otherwise: note on documents that an earlier version read as other ids, or None.
        skipped: what the source holds besides the documents and was left out, by name, with the reasons.
    """

    def __init__(
        self,
        documents: Documents,
        lengths: Sequence[int] | np.ndarray,
        length: int,
        tokenizer: Tokenizer,
        text_bytes: int | Sequence[int] | np.ndarray,
        read_otherwise: str | None = None,
        skipped: Mapping[str, str] | None = None,
    ):
        self._read_otherwise, self._skipped = read_otherwise, dict(skipped or {})
        self._sums: dict[int, int] = {}  # bytes of all tokens, by document
        self.documents, self.length, self.tokenizer = documents, length, tokenizer
        self.bytes, self._sizes = int(np.sum(text_bytes)), text_bytes
        self.ends = np.cumsum(np.asarray(lengths, dtype=np.int64) + 1)  # in the stream, end tokens included
        total = int(self.ends[-1]) if len(self.ends) else 0
        rows = -(-total // length)
        self.channels, self.size, self.label_names = 1, (length,), ()
        self.labels = torch.zeros(rows, dtype=torch.long)
        self.counts = torch.full((rows,), length)
        if rows:
            self.counts[-1] = total - (rows - 1) * length

    @property
    def identity(self) -> DataIdentity:
        """Return the identity of the data: the lengths of all documents, and the ids of those in memory."""
        ids = self.documents if isinstance(self.documents, list) else ()
        parts = [self.ends.tobytes(), *(np.asarray(document).tobytes() for document in ids)]
        return replace(
            identify(self.source, "sequences", (), ((part, 0) for part in parts)), counts=(len(self),)
        )

    @property
    def values(self) -> int:
        """Return the number of ids of a token, including the mask."""
        return self.tokenizer.vocab_size

    @property
    def read_otherwise(self) -> str | None:
        """Return a note on documents that an earlier version read as other ids; None if there are none."""
        return self._read_otherwise

    @property
    def skipped(self) -> dict[str, str]:
        """Return what the source holds besides the documents and was left out, with the reasons."""
        return self._skipped

    @property
    def tokenizer_digest(self) -> str:
        """Return a hash of the tokenizer that produced the ids."""
        return self.tokenizer.digest

    def decode(self, index: int) -> torch.Tensor:
        """Return the ids of a sequence, (L,) int64, padded with end tokens."""
        row = np.full(self.length, self.tokenizer.eos, dtype=np.int64)
        filled = 0
        for document, part in self._parts(index):
            ids = np.asarray(self.documents[document])[part]
            row[filled : filled + len(ids)] = ids
            filled += len(ids) + 1  # with the end token, which `row` already holds
        return torch.from_numpy(row)

    def prepared(self, index: int) -> torch.Tensor:
        """Return the ids (L,) of a sequence, with the mask's id in place of padding."""
        ids = self.decode(index)
        ids[int(self.counts[index]) :] = self.tokenizer.mask
        return ids

    def read(self, index: int) -> tuple[torch.Tensor, int]:
        """Return the ids (L,) of a sequence, see `prepared`, and its label, 0."""
        return self.prepared(index), 0

    def bytes_of(self, index: int) -> float:
        """Return the size in UTF-8, in bytes, of the text of a sequence; end tokens have none.

        Where a sequence holds a part of a document, its fraction of the document's bytes is that of the
        lengths of the tokens, which add up to the document except for what a tokenizer normalises.
        """
        size = 0.0
        for document, part in self._parts(index):
            inside, whole = self._token_bytes_of(document, part), self._token_bytes_of_all(document)
            known = whole if isinstance(self._sizes, int) else int(self._sizes[document])
            size += inside if known == whole else known * inside / max(1, whole)
        return size

    def _token_bytes_of(self, document: int, part: slice) -> int:
        """Return the sum of the lengths of a part of a document's tokens, in bytes."""
        return int(self._token_bytes[np.asarray(self.documents[document][part], dtype=np.int64)].sum())

    def _token_bytes_of_all(self, document: int) -> int:
        """Return the sum of the lengths of a document's tokens, which is computed once, part by part."""
        if document not in self._sums:
            first = int(self.ends[document - 1]) if document else 0
            length = int(self.ends[document]) - first - 1  # without the end token
            parts = (slice(at, at + PART) for at in range(0, length, PART))
            self._sums[document] = sum(self._token_bytes_of(document, part) for part in parts)
        return self._sums[document]

    @cached_property
    def _token_bytes(self) -> np.ndarray:
        return np.asarray(self.tokenizer.token_bytes())

    def _parts(self, index: int) -> Iterator[tuple[int, slice]]:
        """Yield the documents of a sequence, and the tokens of each that it holds, without end tokens."""
        first = index * self.length
        document = int(np.searchsorted(self.ends, first, side="right"))
        stop = first + self.length
        begin = int(self.ends[document - 1]) if document else 0
        while begin < stop and document < len(self.ends):
            following = int(self.ends[document])
            yield document, slice(max(first - begin, 0), min(stop, following - 1) - begin)
            begin, document = following, document + 1


def open_texts(
    config: DataConfig, tokenizer: Tokenizer, length: int, *, held_out: bool = False
) -> WrappedTexts:
    """Open the texts that `config.source` names as sequences of tokens.

    The source is `shakespeare`, a file, a folder of files, or a data set with a column of texts. Every file
    is a document, and so is every row of a data set or of a JSON, CSV, TSV or Parquet file. Special tokens
    spelled in a text, such as <|endoftext|>, are plain text unless `config.special_tokens` is set.

    Args:
        config: configuration of the data.
        tokenizer: tokenizer of the texts.
        length: number of tokens of a sequence.
        held_out: whether to open the held-out works of Shakespeare, which training never sees; other sources
            have no such part.

    Raises:
        UserError: if there is no text, a file is empty or not a text, or the source cannot be loaded.
    """
    if held_out and config.source not in TEXT_SETS:
        names = ", ".join(TEXT_SETS)
        raise UserError(f"data.source {config.source} has no held-out part; of texts, only {names} has one")
    texts = _files(config, held_out)
    if texts is not None:
        return _in_memory(texts, tokenizer, length, config)
    rows, column = _rows(config)

    def encoded(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        texts = [text or "" for text in batch[column]]
        sequences = [tokenizer.encode(text, special=special) for text in texts]
        return {
            "ids": sequences,
            "count": [len(sequence) for sequence in sequences],
            "bytes": [len(text.encode()) for text in texts],
            "special": [tokenizer.spells_special(text) for text in texts],
        }

    special = config.special_tokens
    tokens = rows.map(encoded, batched=True, remove_columns=rows.column_names, desc="tokenising")
    counts, sizes = (np.asarray(tokens[name][:], dtype=np.int64) for name in ("count", "bytes"))
    if not counts.sum():
        raise UserError(f"data.source {config.source} holds no text in its column {column!r}")
    ids = tokens.with_format("numpy", columns=["ids"])["ids"]
    note = _note_of_special_tokens(sum(tokens["special"][:]), config)
    return WrappedTexts(ids, counts, length, tokenizer, sizes, note)


def read_texts(config: DataConfig, *, held_out: bool = False) -> Iterator[str]:
    """Yield the texts of a source one by one; see `open_texts`."""
    texts = _files(config, held_out)
    if texts is not None:
        yield from texts
    else:
        rows, column = _rows(config)
        for row in rows.select_columns([column]):
            yield row[column] or ""


def _files(config: DataConfig, held_out: bool) -> Iterable[str] | None:
    """Return the texts of a source that consists of files; None if it is a data set."""
    config.refuse("image_column", "label_column", "listed", "max_pixels", reason="a source of texts")
    if config.source in TEXT_SETS:
        config.refuse("split", "text_column", reason="which is built in")
        return TEXT_SETS[config.source](held_out)
    path = Path(config.source).expanduser()
    if not path.is_file() and (not path.is_dir() or holds_tables(path)):
        return None
    files = _scanned(config).files
    if not any(file.suffix.lower() in TABLES for file in files):
        config.refuse("text_column", reason="which holds no tables")
    if not files:
        raise UserError(f"data.source {config.source} is empty; it must hold text files")
    bar = ProgressBar(files, desc="reading texts", unit="file", delay=2, leave=False)
    return (text for file in bar for text in read_documents(file, config.text_column))


def _rows(config: DataConfig) -> tuple[Any, str]:
    rows = load_rows(config)
    return rows, _text_column(rows, config.text_column)


def _in_memory(texts: Iterable[str], tokenizer: Tokenizer, length: int, config: DataConfig) -> WrappedTexts:
    ids, sizes, special = [], [], 0
    for text in texts:
        ids.append(np.asarray(tokenizer.encode(text, special=config.special_tokens), dtype=np.int32))
        sizes.append(len(text.encode()))
        special += tokenizer.spells_special(text)
    if not any(map(len, ids)):
        raise UserError(f"data.source {config.source} holds no text")
    scan = Scan([], {}) if config.source in TEXT_SETS else _scanned(config)
    note = _note_of_files(scan.files) or _note_of_special_tokens(special, config)
    lengths = [len(document) for document in ids]
    return WrappedTexts(ids, lengths, length, tokenizer, sizes, note, scan.left_out)


def _note_of_special_tokens(count: int, config: DataConfig) -> str | None:
    """Return a note on texts that spell special tokens, which an earlier version did not read as text."""
    if not count or config.special_tokens:
        return None
    return f"special tokens are spelled in {count:,} of them; continue with --data.special_tokens true"


def _note_of_files(files: Iterable[Path]) -> str | None:
    """Return a note on files that an earlier version read with their markup or signature."""
    file = next(filter(has_markup, files), None)
    return None if file is None else f"{file} was read with its markup or signature"


def _scanned(config: DataConfig) -> Scan:
    """Return the file that the source names, or the files of texts of the folder, or of its split.

    Documents about a folder are no files of texts. What is left out is named with the reasons.
    """
    source = Path(config.source).expanduser()
    if source.is_file():
        config.refuse("split", reason="a file")
        return Scan([source], {})
    scan = scan_folder(split_folder(config, texts=True))
    return Scan([file for file in scan.files if is_text(file)], scan.left_out)


def _text_column(rows: Any, column: str | None) -> str:
    """Return the named column, or the only column of texts."""
    texts = [
        name
        for name, feature in rows.features.items()
        if getattr(feature, "dtype", "") in ("string", "large_string")
    ]
    return choose_column(texts, column)
