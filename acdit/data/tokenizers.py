"""Tokenizers: texts to ids and back. The end of a text is an id of its own; the mask follows the last id."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..utils.checks import here_or_on_hub
from ..utils.errors import UserError, require
from ..utils.files import whole

FILE = "tokenizer.json"
END = "<|endoftext|>"


class Tokenizer(ABC):
    """Base class of tokenizers with the ids 0..size - 1.

    `eos` is one of the ids; `mask` is the id after them, which no text contains.

    Attributes:
        size: number of ids, without the mask.
        eos: id of the end of a text.
    """

    size: int
    eos: int

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


class TextStream:
    """Incremental decoder of ids that arrive in parts, up to the end token.

    Characters are returned as soon as they are complete.

    Args:
        tokenizer: tokenizer of the ids.
        prompt: ids before the parts, on which the text may depend, such as a space between words.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int] = ()):
        prompt_ids = list(prompt)
        while tokenizer.eos in prompt_ids:
            prompt_ids = prompt_ids[prompt_ids.index(tokenizer.eos) + 1 :]
        self._tokenizer, self._ids, self._text = tokenizer, prompt_ids, ""
        self._prompt_length = len(tokenizer.decode(prompt_ids))

    def add(self, ids: Sequence[int], last: bool = False) -> str:
        """Return the text that the given ids add.

        Args:
            ids: the next ids.
            last: whether no ids follow; an incomplete character at the end is then returned too.
        """
        self._ids: list[int] = [*self._ids, *ids]
        text = self._tokenizer.decode(self._ids)[self._prompt_length :]
        if not last and self._tokenizer.eos not in self._ids:
            text = text.rstrip("\ufffd")  # may be the start of a character
        new, self._text = text[len(self._text) :], text
        return new


class ByteTokenizer(Tokenizer):
    """Tokenizer whose ids are the bytes of UTF-8; it needs neither training nor download."""

    size = 257
    eos = 256

    def _encode(self, text: str, special: bool) -> list[int]:
        del special  # there is no spelling of the end token
        return list(text.encode())

    def _decode(self, ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")

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

    def description(self) -> dict[str, Any]:
        """Return the description, see `Tokenizer.description`."""
        return {"acdit": "subwords", "end": self.end, "state": json.loads(self._inner.to_str())}


def train_tokenizer(texts: Iterable[str], size: int) -> SubwordTokenizer:
    """Train a byte-level BPE tokenizer on texts.

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
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
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
            state = json.loads(path.read_bytes())  # also with a signature
            if not isinstance(state, dict):
                raise ValueError("it must hold a JSON object")
            return tokenizer_of(state)
        except (OSError, ValueError) as fault:
            raise UserError(f"{name} is not a tokenizer file: {' '.join(str(fault).split())}") from fault
    here_or_on_hub("tokenizer", name, "a tokenizer")
    library: Any = require("transformers", "text")
    try:
        loaded = library.AutoTokenizer.from_pretrained(name, use_fast=True)
    except (OSError, ValueError) as fault:
        reason = " ".join(str(fault).split())
        raise UserError(f"tokenizer {name} cannot be loaded: {reason}") from fault
    inner = getattr(loaded, "backend_tokenizer", None)
    if inner is None or loaded.eos_token is None:
        raise UserError(
            f"tokenizer {name} has {'no fast version' if inner is None else 'no end-of-text token'}"
        )
    return SubwordTokenizer(inner.to_str(), loaded.eos_token)


def tokenizer_of(description: dict[str, Any]) -> Tokenizer:
    """Build a tokenizer from its own description, or from JSON of the library `tokenizers`.

    Raises:
        ValueError: if the argument is neither.
    """
    tokenizer_type = description.get("acdit")
    if tokenizer_type == "bytes":
        return ByteTokenizer()
    try:
        if tokenizer_type == "subwords":
            return SubwordTokenizer(json.dumps(description["state"]), description["end"])
        return SubwordTokenizer(json.dumps(description))
    except UserError:
        raise
    except Exception as fault:  # the library raises no narrower exception
        raise ValueError(f"not the JSON of a tokenizer: {fault}") from fault
