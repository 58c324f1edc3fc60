"""Sets of texts: generated ones, those in files, and real ones of the same lengths."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data.config import DataConfig
from ..data.data_sets import TEXT_SETS
from ..data.folders import holds_tables, scan_folder
from ..data.splits import held_out_split
from ..data.text_decoding import TABLES
from ..data.texts import WrappedTexts, read_texts
from ..generation.batches import Sampling, draw_texts
from ..generation.text_files import separated
from ..metrics.text_diversity import words_of
from ..pipelines.text import ACDiTTextPipeline
from ..utils.checks import exists
from ..utils.errors import UserError
from ..utils.randomness import generator
from ..utils.ranks import ALONE, Ranks
from ..utils.untrusted import plain

WORD = re.compile(r"\S+")
MOST_LETTERS = 2**27  # of the documents from which passages are taken


class TextSamples:
    """Texts in memory; see `Samples`.

    Args:
        texts: the texts.
        tokens: token ids of each text, (L,), of the tokenizer of a model; None if they are not known.
        name: name of the set in messages.

    Raises:
        UserError: if there are no texts, or one holds lone surrogates, which no file in UTF-8 can hold.
    """

    shape: tuple[int, ...] = ()
    labels: Tensor | None = None
    label_names: tuple[str, ...] = ()

    def __init__(self, texts: Sequence[str], tokens: Sequence[Tensor] | None = None, name: str = "texts"):
        if not texts:
            raise UserError(f"{name} holds no texts")
        for number, text in enumerate(texts, start=1):
            try:
                text.encode()
            except UnicodeEncodeError as fault:
                raise UserError(
                    f"text {number:,} of {name} is not valid Unicode at character {fault.start}"
                ) from fault
        self.texts, self.name = list(texts), name
        self.tokens = None if tokens is None else [row.tolist() for row in tokens]
        self.words = [words_of(text) for text in texts]
        self.unreadable: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.texts)

    def batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[tuple[range, Sequence[str]]]:
        """Yield the batches rank, rank + ranks, .. of `size` texts; see `Samples`."""
        for first in range(rank * size, len(self), ranks * size):
            rows = range(first, min(first + size, len(self)))
            yield rows, self.texts[rows.start : rows.stop]

    def describe(self) -> dict[str, Any]:
        """Return the name, the number of texts and of their words, and a digest."""
        digest = hashlib.blake2b("\0".join(self.texts).encode(), digest_size=16)
        return {
            "name": self.name,
            "count": len(self),
            "words": sum(map(len, self.words)),
            "digest": digest.hexdigest(),
        }


class RealTexts(NamedTuple):
    """Real texts to compare with.

    Attributes:
        reference: real texts, as many as are scored.
        other: as many others, whose scores against the reference stand beside those of the samples; None if
            there are too few.
    """

    reference: TextSamples
    other: TextSamples | None


@dataclass(frozen=True)
class TextSource:
    """Source of real texts.

    Attributes:
        name: name of a built-in set, of which the held-out part is read, a file, a folder or a data set.
        split: split of the source; None = `validation`, if the source has splits.
        column: column of the texts in a data set; None = the only one.
        special_tokens: whether special tokens spelled in a text are read as special tokens.
    """

    name: str
    split: str | None = None
    column: str | None = None
    special_tokens: bool = False

    def __post_init__(self) -> None:
        if self.held_out and self.split is not None:
            raise UserError(
                f"data.split {self.split!r} has no effect on {self.name}, whose held-out works are read: "
                "leave it out"
            )

    @property
    def held_out(self) -> bool:
        """Return whether the source is a built-in set, which has a held-out part."""
        return self.name in TEXT_SETS

    def config(self) -> DataConfig:
        """Return the configuration of the data."""
        split = self.split or held_out_split(self.name, texts=True)
        return DataConfig(
            source=self.name, split=split, text_column=self.column, special_tokens=self.special_tokens
        )


def generated_texts(
    pipeline: ACDiTTextPipeline,
    count: int,
    sampling: Sampling,
    *,
    block: int,
    temperature: float | None = None,
    ranks: Ranks = ALONE,
) -> TextSamples:
    """Generate texts without a prompt; text i has the seed of the first plus i.

    Args:
        pipeline: pipeline that generates the texts.
        count: number of texts.
        sampling: seed, texts per batch and steps.
        block: tokens of a block.
        temperature: sampling temperature; None = the scheduler's.
        ranks: processes that share the work; each returns all texts.
    """
    rows = draw_texts(pipeline, count, sampling, block=block, temperature=temperature, ranks=ranks)
    texts = [pipeline.tokenizer.decode(row.tolist()) for row in rows]
    return TextSamples(texts, rows, "generated texts")


def real_sequences(data: WrappedTexts, count: int, name: str) -> RealTexts | None:
    """Return real sequences as the model generates them: of its length, up to the first end of a text.

    They are chosen from the whole data by a fixed shuffled order. Return None if there are fewer than
    `count`.
    """
    eos = data.tokenizer.eos
    whole = (data.counts == data.length).nonzero().flatten()  # the last sequence may be shorter
    order = whole[torch.randperm(len(whole), generator=generator("real texts"))]

    def part(indices: Tensor) -> TextSamples:
        rows = [data.decode(int(index)) for index in indices]
        ends = [(row == eos).nonzero().flatten().tolist() for row in rows]
        rows = [row[: end[0] + 1] if end else row for row, end in zip(rows, ends, strict=True)]
        return TextSamples([data.tokenizer.decode(row.tolist()) for row in rows], rows, name)

    return _two_parts(order, count, part)


def real_passages(source: TextSource, samples: TextSamples) -> RealTexts | None:
    """Return passages of real texts with as many words as the samples have on average, as many as these.

    The documents are joined and cut into passages, which are chosen by a fixed shuffled order. Return None if
    there are fewer passages than samples.

    Raises:
        UserError: if the source cannot be read, or the samples have no words.
    """
    words = sum(map(len, samples.words))
    if not words:
        raise UserError(f"{samples.name} holds no words")
    length = max(1, round(words / len(samples)))
    documents, letters = [], 0
    for document in read_texts(source.config(), held_out=source.held_out):
        documents.append(document)
        letters += len(document)
        if letters > MOST_LETTERS:
            break
    joined = "\n\n".join(documents)
    starts, ends = [], []
    for number, match in enumerate(WORD.finditer(joined)):
        if number % length == 0:
            starts.append(match.start())
        if number % length == length - 1:
            ends.append(match.end())
    order = torch.randperm(len(ends), generator=generator("real texts"))

    def part(indices: Tensor) -> TextSamples:
        return TextSamples([joined[starts[at] : ends[at]] for at in indices.tolist()], name=source.name)

    return _two_parts(order, len(samples), part)


def has_columns(source: str) -> bool:
    """Return whether the texts of a source stand in columns: in tables, or in a data set that is not here."""
    path = Path(source).expanduser()
    if source in TEXT_SETS:
        return False
    if path.is_dir() and not holds_tables(path):
        return any(file.suffix.lower() in TABLES for file in scan_folder(path).files)
    return not path.is_file() or path.suffix.lower() in TABLES


def stored_texts(path: Path, column: str | None = None, count: int | None = None) -> TextSamples:
    """Read finished texts from a file, or from a folder of files.

    A plain file holds one text, or several that are separated as `acdit sample` writes them; a table, such as
    a .jsonl file, holds a text in each row, which stays as it stands where no plain files are beside it.

    Args:
        path: file or folder.
        column: column of the texts in tables; None = the only one.
        count: number of texts to take, at even steps; None = all.

    Raises:
        UserError: if there is no such path, a file is no text, or there are too few texts.
    """
    if not exists(path) or not (path.is_file() or path.is_dir()):
        raise UserError(f"{plain(str(path))} does not exist: give a file or a folder of finished texts")
    tables = path.is_dir() and holds_tables(path)  # plain tables are one split, whatever it is called
    split = "train" if tables else held_out_split(str(path), texts=True)
    config = DataConfig(source=str(path), split=split, text_column=column)
    rows = read_texts(config)
    as_they_stand = tables or (path.is_file() and path.suffix.lower() in TABLES)
    texts = list(rows) if as_they_stand else [text for row in rows for text in separated(row)]
    if count is not None and count > len(texts):
        raise UserError(f"{path} holds {len(texts):,} texts, fewer than --count {count:,}")
    if count is not None:
        texts = [texts[number * len(texts) // count] for number in range(count)]
    return TextSamples(texts, name=str(path))


def _two_parts(order: Tensor, count: int, part: Callable[[Tensor], TextSamples]) -> RealTexts | None:
    """Return the first `count` items of an order, and the next ones if there are as many."""
    if len(order) < count:
        return None
    other = order[count : 2 * count]
    return RealTexts(part(order[:count]), part(other) if len(other) == count else None)
