"""TextStream: the text of ids that arrive in parts."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from .tokenizers import Tokenizer


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
        text = self._shown(self._ids, last)
        new, self._text = text[len(self._text) :], text
        return new

    def parts(self, ids: Sequence[int], last: bool = False) -> list[str]:
        """Return the text that each of the given ids adds; joined, they are what `add` returns.

        A character of several ids belongs to the last of them.
        """
        known, shown = self._ids, len(self._text)
        lengths = [
            len(self._shown([*known, *ids[:count]], last=False)) - shown for count in range(1, len(ids))
        ]
        new = self.add(ids, last)
        # Some decoders join tokens, such as a mark and the space before it, which shortens the text.
        bounds = accumulate((min(length, len(new)) for length in lengths), max, initial=0)
        cuts = [*bounds, len(new)]
        return [new[start:stop] for start, stop in pairwise(cuts)] if len(ids) else []

    def _shown(self, ids: list[int], last: bool) -> str:
        """Return the text of all ids, by default without an incomplete character at its end."""
        text = self._tokenizer.decode(ids)[self._prompt_length :]
        if not last and self._tokenizer.eos not in ids:
            text = text.rstrip("\ufffd")  # may be the start of a character
        return text
