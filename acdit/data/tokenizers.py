"""Tokenisers: texts to ids and back; the end of a text is an id of its own, and the mask follows the last."""

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
    """Ids 0..size - 1, `eos` among them; `mask` is the id behind them, which no text has.

    Attributes:
        size: ids, without the mask.
        eos: the end of a text.
    """

    size: int
    eos: int

    @property
    def mask(self) -> int:
        """The id of a token that is yet to be drawn."""
        return self.size

    @property
    def vocab_size(self) -> int:
        """Ids that a network must know, the mask included."""
        return self.size + 1

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without an end.

        Raises:
            UserError: for halves of characters, as a terminal's undecodable bytes become.
        """
        try:
            text.encode()
        except UnicodeEncodeError as fault:
            raise UserError(
                f"the text is no Unicode at character {fault.start}: write it in UTF-8"
            ) from fault
        return self._encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids up to the first end; what is no whole character reads as the replacement character.

        Raises:
            UserError: for an id that is none of these, such as the mask.
        """
        listed = [int(token) for token in ids]
        strange = next((token for token in listed if not 0 <= token < self.size), None)
        if strange is not None:
            what = "the mask" if strange == self.mask else "no token"
            raise UserError(f"{strange} is {what}: tokens of a text are 0..{self.size - 1}")
        if self.eos in listed:
            listed = listed[: listed.index(self.eos)]
        return self._decode(listed)

    @abstractmethod
    def _encode(self, text: str) -> list[int]: ...

    @abstractmethod
    def _decode(self, ids: list[int]) -> str: ...

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What `tokenizer_of` makes the same one of, ready for JSON."""

    @property
    def digest(self) -> str:
        """A hash of what it is."""
        return hashlib.blake2b(json.dumps(self.description()).encode(), digest_size=16).hexdigest()

    def save(self, path: Path) -> None:
        """Write a file that `open_tokenizer` reads."""
        with whole(path) as aside:
            aside.write_text(json.dumps(self.description(), ensure_ascii=False))


class TextStream:
    """The text of ids that come in parts: whole characters as soon as they are there, up to the end.

    Args:
        tokenizer: of the ids.
        prompt: ids before them: what these read as may depend on those, such as a space between words.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int] = ()):
        given = list(prompt)
        while tokenizer.eos in given:
            given = given[given.index(tokenizer.eos) + 1 :]
        self._tokenizer, self._seen, self._shown = tokenizer, given, ""
        self._given = len(tokenizer.decode(given))

    def add(self, ids: Sequence[int], last: bool = False) -> str:
        """What is new with these ids; nothing follows the last, so what is no whole character is shown."""
        self._seen: list[int] = [*self._seen, *ids]
        text = self._tokenizer.decode(self._seen)[self._given :]
        if not last and self._tokenizer.eos not in self._seen:
            text = text.rstrip("\ufffd")  # perhaps the beginning of a character
        new, self._shown = text[len(self._shown) :], text
        return new


class ByteTokenizer(Tokenizer):
    """The bytes of UTF-8: nothing to learn, nothing to download."""

    size = 257
    eos = 256

    def _encode(self, text: str) -> list[int]:
        return list(text.encode())

    def _decode(self, ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")

    def description(self) -> dict[str, Any]:
        return {"acdit": "bytes"}


class SubwordTokenizer(Tokenizer):
    """Any tokeniser of the library `tokenizers`, GPT-2's for one.

    Args:
        state: its JSON.
        end: the token that ends a text.

    Raises:
        UserError: if there is no such token.
    """

    def __init__(self, state: str, end: str = END):
        library: Any = require("tokenizers", "text")
        self._inner, self.end = library.Tokenizer.from_str(state), end
        self._inner.no_padding()
        self._inner.no_truncation()
        self.size = max(self._inner.get_vocab(with_added_tokens=True).values()) + 1
        found = self._inner.token_to_id(end)
        if found is None:
            raise UserError(f"the tokeniser has no token {end!r} to end texts with; name one that it has")
        self.eos = found

    def _encode(self, text: str) -> list[int]:
        return self._inner.encode(text, add_special_tokens=False).ids

    def _decode(self, ids: list[int]) -> str:
        return self._inner.decode(ids, skip_special_tokens=False)

    def description(self) -> dict[str, Any]:
        return {"acdit": "subwords", "end": self.end, "state": json.loads(self._inner.to_str())}


def train_tokenizer(texts: Iterable[str], size: int) -> SubwordTokenizer:
    """A byte-level BPE of at most `size` ids, the end included, learned from texts.

    Raises:
        UserError: for fewer ids than all bytes and the end need.
    """
    if size < 257:
        raise UserError(f"a byte-level tokeniser has at least 257 ids, 256 bytes and the end, not {size}")
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
    """`bytes`, a file that `Tokenizer.save` or the library `tokenizers` wrote, or a Hugging Face one by name
    or folder.

    Raises:
        UserError: if there is none, or it cannot be used.
    """
    if name == "bytes":
        return ByteTokenizer()
    path = Path(name).expanduser()
    if path.is_file():
        try:
            state = json.loads(path.read_text())
            if not isinstance(state, dict):
                raise ValueError("it holds no object")
            return tokenizer_of(state)
        except (OSError, ValueError) as fault:
            raise UserError(f"{name} is no tokeniser: {' '.join(str(fault).split())}") from fault
    here_or_on_hub("tokeniser", name, "a tokeniser")
    library: Any = require("transformers", "text")
    try:
        found = library.AutoTokenizer.from_pretrained(name, use_fast=True)
    except (OSError, ValueError) as fault:
        reason = " ".join(str(fault).split())
        raise UserError(f"tokeniser {name} is not `bytes`, and cannot be loaded: {reason}") from fault
    inner = getattr(found, "backend_tokenizer", None)
    if inner is None or found.eos_token is None:
        raise UserError(
            f"tokeniser {name} has {'no fast form' if inner is None else 'no token to end texts'}"
        )
    return SubwordTokenizer(inner.to_str(), found.eos_token)


def tokenizer_of(description: dict[str, Any]) -> Tokenizer:
    """The tokeniser of a description, or of the JSON of the library `tokenizers`.

    Raises:
        ValueError: if it is neither.
    """
    kind = description.get("acdit")
    if kind == "bytes":
        return ByteTokenizer()
    try:
        if kind == "subwords":
            return SubwordTokenizer(json.dumps(description["state"]), description["end"])
        return SubwordTokenizer(json.dumps(description))
    except UserError:
        raise
    except Exception as fault:  # the library raises nothing narrower
        raise ValueError(f"not a tokeniser's JSON: {fault}") from fault
