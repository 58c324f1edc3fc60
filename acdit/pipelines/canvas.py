"""Canvas: the tokens of a batch of texts while they are generated block by block."""

from collections.abc import Sequence

from torch import Tensor

from ..data.tokenizers import Tokenizer
from ..model.layout import Layout
from ..utils.errors import UserError


class Canvas:
    """Tokens of a batch during generation: given tokens, masks, and the tokens that replace the masks.

    Args:
        tokens: token ids (N, L), with the mask's id wherever a token is to be generated.
        prompts: prompt of each sample.
        starts: index of each sample's first token that is not part of its prompt.
        limits: index after each sample's last requested token.
        layout: layout (L,), cut into blocks.
        tokenizer: tokenizer of the tokens.
        ends: whether an end token ends its sample.
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
        """Return a block (N, B) by its index, as `generate` expects it."""
        return self.tokens[:, self._places(index)]

    def put(self, index: int, sample: Tensor) -> None:
        """Store a generated block (N, B).

        In samples that have ended, the following blocks are filled with end tokens, so that they are not
        generated.

        Raises:
            UserError: if a token of the block is still masked.
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
        """Return whether no sample has tokens left to generate after a block."""
        return self._places(index).stop >= max(self.limits)

    def new(self, row: int, index: int) -> list[int]:
        """Return the requested tokens of a block in one sample, without those of its prompt."""
        places = self._places(index)
        asked = slice(max(places.start, self.starts[row]), min(places.stop, self.limits[row]))
        return self.tokens[row, asked].tolist()

    def _places(self, index: int) -> slice:
        size = self.layout.block_tokens
        return slice(index * size, (index + 1) * size)
