"""Canvas: the tokens of a batch of texts while they are drawn block by block."""

from collections.abc import Sequence

from torch import Tensor

from ..data.tokenizers import Tokenizer
from ..model.layout import Layout
from ..utils.errors import UserError


class Canvas:
    """Tokens of a batch while they are drawn: given ones, masks, and in time what takes their place.

    Args:
        tokens: (N, L), masked where they are to be drawn.
        prompts: of each sample.
        starts: of each, the first token that was not in its prompt.
        limits: of each, one past the last token that was asked for.
        layout: (L,) cut into blocks.
        tokenizer: of the tokens.
        ends: whether its end ends a sample.
    """

    def __init__(
        self,
        tokens: Tensor,
        prompts: Sequence[str],
        starts: Sequence[int],
        limits: Sequence[int],
        layout: Layout,
        tokenizer: Tokenizer,
        ends: bool,
    ):
        self.tokens, self.layout, self.tokenizer, self.ends = tokens, layout, tokenizer, ends
        self.prompts, self.starts, self.limits = list(prompts), list(starts), list(limits)

    def __call__(self, index: int) -> Tensor:
        """A block (N, B), as `generate` asks for it."""
        return self.tokens[:, self._places(index)]

    def put(self, index: int, sample: Tensor) -> None:
        """Take a block (N, B); what follows in a sample that has ended is filled with ends, not drawn.

        Raises:
            UserError: if some of it is still masked.
        """
        if (sample == self.tokenizer.mask).any():
            raise UserError(f"block {index} ends with masks: a callback must put none back in its last step")
        places = self._places(index)
        self.tokens[:, places] = sample
        if not self.ends:
            return
        for row, start in enumerate(self.starts):
            first = max(start, places.start)
            found = (self.tokens[row, first : places.stop] == self.tokenizer.eos).nonzero()
            if len(found):
                end = first + int(found[0]) + 1
                self.limits[row] = min(self.limits[row], end)
            if places.stop >= self.limits[row]:
                self.tokens[row, places.stop :] = self.tokenizer.eos

    def done(self, index: int) -> bool:
        """Whether no sample has anything to be drawn after a block."""
        return self._places(index).stop >= max(self.limits)

    def new(self, row: int, index: int) -> list[int]:
        """Tokens of a block that were asked for and are not of the prompt."""
        places = self._places(index)
        asked = slice(max(places.start, self.starts[row]), min(places.stop, self.limits[row]))
        return self.tokens[row, asked].tolist()

    def _places(self, index: int) -> slice:
        size = self.layout.block_tokens
        return slice(index * size, (index + 1) * size)
