"""TextStream: the text of ids that arrive in parts."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from .tokenizers import Tokenizer

CONTEXT = 64  # last ids of the text before that are decoded with new ones, since decoders join neighbours


class TextStream:
    """Incremental decoder of ids that arrive in parts, up to the end token.

    Characters are returned as soon as they are complete. The time for a part does not depend on the length of
    the text before it.

    Args:
        tokenizer: tokenizer of the ids.
        prompt: ids before the parts, on which the text may depend, such as a space between words.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int] = ()):
        prompt_ids = list(prompt)
        while tokenizer.eos in prompt_ids:
            prompt_ids = prompt_ids[prompt_ids.index(tokenizer.eos) + 1 :]
        self._tokenizer = tokenizer
        self._ids = prompt_ids[-CONTEXT:]  # all that are still decoded with new ones
        self._before = len(tokenizer.decode(self._ids))  # characters of the first of them, which are known
        self._returned = 0  # characters of the others

    def add(self, ids: Sequence[int], last: bool = False) -> str:
        """Return the text that the given ids add.

        Args:
            ids: the next ids.
            last: whether no ids follow; an incomplete character at the end is then returned too.
        """
        self._ids: list[int] = [*self._ids, *ids]
        text = self._shown(self._ids, last)
        new, self._returned = text[self._returned :], len(text)
        self._forget()
        return new

    def parts(self, ids: Sequence[int], last: bool = False) -> list[str]:
        """Return the text that each of the given ids adds; joined, they are what `add` returns.

        A character of several ids belongs to the last of them.
        """
        known, returned = self._ids, self._returned
        lengths = [
            len(self._shown([*known, *ids[:count]], last=False)) - returned for count in range(1, len(ids))
        ]
        new = self.add(ids, last)
        # Some decoders join tokens, such as a mark and the space before it, which shortens the text.
        bounds = accumulate((min(length, len(new)) for length in lengths), max, initial=0)
        cuts = [*bounds, len(new)]
        return [new[start:stop] for start, stop in pairwise(cuts)] if len(ids) else []

    def _shown(self, ids: list[int], last: bool) -> str:
        """Return the text of all ids, by default without an incomplete character at its end."""
        text = self._tokenizer.decode(ids)[self._before :]
        if not last and self._tokenizer.eos not in ids:
            text = text.rstrip("\ufffd")  # may be the start of a character
        return text

    def _forget(self) -> None:
        """Forget ids that have no effect on later ones; not at the end or inside a character."""
        if len(self._ids) < 2 * CONTEXT or self._tokenizer.eos in self._ids:
            return
        kept = self._ids[-CONTEXT:]
        text = self._tokenizer.decode(kept)
        if not text.endswith("\ufffd"):
            self._ids, self._before, self._returned = kept, len(text), 0
