"""Tokenizers: texts to ids and back. The end of a text is an id of its own; the mask follows the last id."""

import hashlib
import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from ..utils.errors import UserError, require
from ..utils.files import whole
from ..utils.hub import loading, local_or_hub, only_local
from ..utils.untrusted import damage, parse_json, read_object, reading, shown

FILE = "tokenizer.json"
FOLDER_FILES = (FILE, "tokenizer_config.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")
QUICK = 5_000_000  # number of characters on which a tokenizer trains in a few seconds
MOST_GAPS = 2**16  # unused ids of a vocabulary
END = "<|endoftext|>"


class Tokenizer(ABC):
    """Base class of tokenizers with the ids 0..size - 1.

    `eos` is one of the ids; `mask` is the id after them, which no text contains.

    Attributes:
        size: number of ids, without the mask.
        eos: id of the end of a text.
        end: spelling of the end of a text; empty if it has none.
    """

    size: int
    eos: int
    end: str = ""

    @property
    def mask(self) -> int:
        """Return the id of a token that is yet to be generated."""
        return self.size

    @property
    def vocab_size(self) -> int:
        """Return the number of ids that a network needs, including the mask."""
        return self.size + 1

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return the ids of a text, without an end token at its end.

        Args:
            text: text to encode.
            special: whether special tokens that are spelled in the text, such as <|endoftext|>, become these
                tokens; otherwise they are text like any other.

        Raises:
            UserError: if the text holds lone surrogates, which stand for undecodable bytes of a terminal.
        """
        try:
            text.encode()
        except UnicodeEncodeError as fault:
            raise UserError(
                f"the text is not valid Unicode at character {fault.start}: encode it in UTF-8"
            ) from fault
        return self._encode(text, special)

    def spells_special(self, text: str) -> bool:
        """Return whether a special token is spelled in a text."""
        del text
        return False

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids up to the first end token.

        Bytes that form no whole character become the replacement character.

        Raises:
            UserError: if an id is outside 0..size - 1, such as the mask.
        """
        token_ids = [int(token) for token in ids]
        invalid = next((token for token in token_ids if not 0 <= token < self.size), None)
        if invalid is not None:
            problem = "the mask" if invalid == self.mask else "not a token"
            raise UserError(f"{invalid} is {problem}: the ids of a text are 0..{self.size - 1}")
        if self.eos in token_ids:
            token_ids = token_ids[: token_ids.index(self.eos)]
        return self._decode(token_ids)

    def token_bytes(self) -> list[int]:
        """Return the number of bytes of UTF-8 that each id stands for, 0 for the end of a text."""
        return [0 if token == self.eos else self._bytes_of(token) for token in range(self.size)]

    def _bytes_of(self, token: int) -> int:
        return len(self._decode([token]).encode())

    def decode_all(self, ids: Sequence[int]) -> str:
        """Return the text of ids beyond the end tokens inside, which are spelled if they have a spelling."""
        parts, rest = [], list(ids)
        while self.eos in rest:
            end = rest.index(self.eos)
            parts.append(self.decode(rest[:end]))
            rest = rest[end + 1 :]
        if rest:
            parts.append(self.decode(rest))
        return self.end.join(parts)

    @abstractmethod
    def _encode(self, text: str, special: bool) -> list[int]: ...

    @abstractmethod
    def _decode(self, ids: list[int]) -> str: ...

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Return a description, ready for JSON, from which `tokenizer_of` builds the same tokenizer."""

    @property
    def digest(self) -> str:
        """Return a hash of the description."""
        return hashlib.blake2b(json.dumps(self.description()).encode(), digest_size=16).hexdigest()

    def save(self, path: Path) -> None:
        """Write the tokenizer to a file that `open_tokenizer` reads."""
        with whole(path) as temporary_path:
            temporary_path.write_text(json.dumps(self.description(), ensure_ascii=False), "utf-8")


class ByteTokenizer(Tokenizer):
    """Tokenizer whose ids are the bytes of UTF-8; it needs neither training nor download."""

    size = 257
    eos = 256

    def _encode(self, text: str, special: bool) -> list[int]:
        del special  # there is no spelling of the end token
        return list(text.encode())

    def _decode(self, ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")

    def _bytes_of(self, token: int) -> int:
        return 1

    def description(self) -> dict[str, Any]:
        """Return the description, see `Tokenizer.description`."""
        return {"acdit": "bytes"}


class SubwordTokenizer(Tokenizer):
    """Tokenizer of the library `tokenizers`, such as that of GPT-2.

    Args:
        state: JSON of the tokenizer.
        end: token that ends a text.

    Raises:
        UserError: if the tokenizer has no such token.
    """

    def __init__(self, state: str, end: str = END):
        library: Any = require("tokenizers", "text")
        self._inner, self.end = library.Tokenizer.from_str(state), end
        self._inner.no_padding()
        self._inner.no_truncation()
        self.size = max(self._inner.get_vocab(with_added_tokens=True).values()) + 1
        eos = self._inner.token_to_id(end)
        if eos is None:
            raise UserError(f"the tokenizer has no end-of-text token {end!r}; choose a token that it has")
        self.eos = eos
        described = json.loads(self._inner.to_str())
        for token in described["added_tokens"]:
            token["special"] = token["special"] or token["content"] == end  # some files omit it for the end
        self._added = {token["id"] for token in described["added_tokens"]}
        self._byte_level = '"ByteLevel"' in json.dumps(described.get("decoder"))
        self._special = [token["content"] for token in described["added_tokens"] if token["special"]]
        # a second tokenizer, so that the description and the digest of the first stay the same
        self._encoder = library.Tokenizer.from_str(json.dumps(described))

    def spells_special(self, text: str) -> bool:
        """Return whether a special token is spelled in a text."""
        return any(token in text for token in self._special)

    def _encode(self, text: str, special: bool) -> list[int]:
        self._encoder.encode_special_tokens = not special  # not part of its state, so set at every call
        ids = self._encoder.encode(text, add_special_tokens=False).ids
        if self.eos in ids and not special:  # the words of some models include the end token
            raise UserError(
                f"the tokenizer cannot encode {self.end!r} in a text as anything but the end of the text: "
                "remove it from the text"
            )
        return ids

    def _decode(self, ids: list[int]) -> str:
        return self._inner.decode(ids, skip_special_tokens=False)

    def _bytes_of(self, token: int) -> int:
        word = self._inner.id_to_token(token) or ""
        if self._byte_level and token not in self._added:
            return len(word)  # a character stands for each byte
        if re.fullmatch("<0x[0-9A-F]{2}>", word):
            return 1  # a byte of a character that is not in the vocabulary
        return len(word.removeprefix("##").replace("\u2581", " ").encode())

    def description(self) -> dict[str, Any]:
        """Return the description, see `Tokenizer.description`."""
        return {"acdit": "subwords", "end": self.end, "state": json.loads(self._inner.to_str())}


def train_tokenizer(texts: Iterable[str], size: int) -> SubwordTokenizer:
    """Train a byte-level BPE tokenizer on texts.

    In a terminal, the library draws progress bars if the texts take more than a few seconds. It writes line
    ends to the output even if it draws nothing, so it draws only if both outputs are a terminal.

    Args:
        texts: texts to train on.
        size: maximum number of ids, including the end token.

    Raises:
        UserError: if `size` is too small for all bytes and the end token.
    """
    if size < 257:
        raise UserError(
            f"a byte-level tokenizer needs at least 257 ids (256 bytes and the end token), not {size}"
        )
    library: Any = require("tokenizers", "text")
    inner = library.Tokenizer(library.models.BPE())
    inner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = library.decoders.ByteLevel()
    remaining, first, read = iter(texts), [], 0
    while read < QUICK and (text := next(remaining, None)) is not None:
        first.append(text)
        read += len(text)
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=read >= QUICK and sys.stdout.isatty() and sys.stderr.isatty(),
    )
    inner.train_from_iterator(chain(first, remaining), trainer)
    return SubwordTokenizer(inner.to_str())


def open_tokenizer(name: str) -> Tokenizer:
    """Open a tokenizer by name.

    Args:
        name: `bytes`, a file that `Tokenizer.save` or the library `tokenizers` wrote, or the name or folder
            of a Hugging Face tokenizer.

    Raises:
        UserError: if there is no such tokenizer, or it cannot be used.
    """
    if name == "bytes":
        return ByteTokenizer()
    path = Path(name).expanduser()
    if path.is_file():
        try:
            return tokenizer_of(read_object(path), path)
        except UserError as fault:
            if fault.__cause__ is None and not str(fault).startswith(f"{path} "):
                raise  # a package is missing, or the end-of-text token
            raise UserError(f"{name} is not a tokenizer file: {fault}") from fault
    here = local_or_hub("tokenizer", name, "a tokenizer", FOLDER_FILES)
    if here is not None and (here / FILE).exists():
        _check_vocabulary(read_object(here / FILE), here / FILE)
    library: Any = require("transformers", "text")
    with loading(f"tokenizer {name}", here):
        loaded = library.AutoTokenizer.from_pretrained(
            here or name, use_fast=True, trust_remote_code=False, local_files_only=only_local(here)
        )
        inner = getattr(loaded, "backend_tokenizer", None)
        state = None if inner is None else inner.to_str()
        end = loaded.eos_token
    if state is None or end is None:
        lacking = "fast version" if state is None else "end-of-text token"
        raise UserError(f"tokenizer {name} has no {lacking}")
    return tokenizer_of({"acdit": "subwords", "state": parse_json(state, name), "end": end}, name)


def tokenizer_of(description: dict[str, Any], source: Path | str = "the tokenizer") -> Tokenizer:
    """Build a tokenizer from its own description, or from JSON of the library `tokenizers`.

    Args:
        description: the description.
        source: name of the description in messages.

    Raises:
        UserError: if the argument is neither, or is damaged.
    """
    tokenizer_type = description.get("acdit")
    if tokenizer_type == "bytes":
        return ByteTokenizer()
    if tokenizer_type not in (None, "subwords"):
        raise damage(source, f"it is a tokenizer of the unknown kind {shown(tokenizer_type)}")
    state, end = (description.get("state"), description.get("end")) if tokenizer_type else (description, END)
    if not isinstance(state, dict) or not isinstance(end, str):
        raise damage(source, "it must hold the state of a tokenizer and its end-of-text token")
    _check_vocabulary(state, source)
    with reading(source):
        return SubwordTokenizer(json.dumps(state), end)


def _check_vocabulary(state: dict[str, Any], source: Path | str) -> None:
    """Raise UserError if JSON of the library `tokenizers` is not a tokenizer, or has absurdly large ids."""
    model, added = state.get("model"), state.get("added_tokens", [])
    if not isinstance(model, dict) or not isinstance(added, list):
        raise damage(source, "it is not the JSON of a tokenizer: it lacks a model or its added_tokens")
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict | list):
        raise damage(source, "it is not the JSON of a tokenizer: its model has no vocabulary")
    ids: list[Any] = [entry.get("id") if isinstance(entry, dict) else None for entry in added]
    ids += vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    if any(type(token) is not int or token < 0 for token in ids):
        raise damage(source, "its ids of tokens must be whole numbers of at least 0")
    if ids and max(ids) > len(ids) + MOST_GAPS:
        raise damage(source, f"its ids of tokens go up to {max(ids):,}, but it has {len(ids):,} tokens")
