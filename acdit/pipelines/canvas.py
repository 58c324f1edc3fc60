"""Canvas: the tokens of a batch of texts while they are generated block by block."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..data.text_stream import TextStream
from ..data.tokenizers import Tokenizer
from ..model.layout import Layout
from ..utils.errors import UserError

GIVEN = -1  # step of tokens that no step revealed


class Canvas:
    """Tokens of a batch during generation: given tokens, masks, and the tokens that replace the masks.

    Args:
        tokens: token ids (N, L), with the mask's id wherever a token is to be generated.
        prompts: prompt of each sample; None = the tokens before its start.
        starts: index of each sample's first token after the last given one.
        limits: index after each sample's last requested token.
        layout: layout (L,), cut into blocks.
        tokenizer: tokenizer of the tokens.
        ends: whether an end token ends its sample.
    """

    def __init__(
        self,
        tokens: Tensor,
        prompts: Sequence[str | None],
        starts: Sequence[int],
        limits: Sequence[int],
        layout: Layout,
        tokenizer: Tokenizer,
        ends: bool,
    ):
        self.tokens, self.layout, self.tokenizer, self.ends = tokens, layout, tokenizer, ends
        self.prompts, self.starts, self.limits = list(prompts), list(starts), list(limits)
        self.steps = torch.full_like(tokens, GIVEN)
        """Solver step of its block that revealed each token, (N, L), from 0; `GIVEN` for given ones."""
        self.is_cut = False
        """True after `cut`, which ends the generation."""

    def __call__(self, index: int) -> Tensor:
        """Return a block (N, B) by its index, as `generate` expects it."""
        return self.tokens[:, self.positions(index)]

    def record(self, index: int, step: int, sample: Tensor) -> None:
        """Note which tokens (N, B) of a block its solver step of this index has revealed."""
        positions, mask = self.positions(index), self.tokenizer.mask
        steps = self.steps[:, positions]
        masked = (
            self.tokens[:, positions] == mask
        )  # until the block is stored, the tokens before its first step
        revealed = masked & (steps == GIVEN) & (sample != mask)
        again = masked & (sample == mask)  # a callback may put masks back
        steps[revealed] = step
        steps[again] = GIVEN

    def put(self, index: int, sample: Tensor) -> None:
        """Store a generated block (N, B).

        In samples that have ended, the following blocks are filled with end tokens, so that they are not
        generated.

        Raises:
            UserError: if a token of the block is still masked.
        """
        if (sample == self.tokenizer.mask).any():
            raise UserError(
                f"block {index} still has masks after its last step: the callback must not put any back there"
            )
        positions = self.positions(index)
        self.tokens[:, positions] = sample
        if not self.ends:
            return
        for row, start in enumerate(self.starts):
            first = max(start, positions.start)
            ends = (self.tokens[row, first : positions.stop] == self.tokenizer.eos).nonzero()
            if len(ends):
                end = first + int(ends[0]) + 1
                self.limits[row] = min(self.limits[row], end)
            if positions.stop >= self.limits[row]:
                self.tokens[row, positions.stop :] = self.tokenizer.eos

    def cut(self, index: int, sample: Tensor) -> None:
        """Store a block (N, B) as the last one, and end every sample before its first masked token."""
        self.is_cut = True
        self.tokens[:, self.positions(index)] = sample
        for row, tokens in enumerate(self.tokens):
            masks = (tokens == self.tokenizer.mask).nonzero()
            if len(masks):
                self.limits[row] = min(self.limits[row], int(masks[0]))

    def ended(self, row: int, index: int) -> bool:
        """Return whether a sample has no tokens after a block."""
        return self.is_cut or self.positions(index).stop >= self.limits[row]

    def done(self, index: int) -> bool:
        """Return whether no sample has tokens left to generate after a block."""
        return all(self.ended(row, index) for row in range(len(self.limits)))

    def first(self, row: int) -> int:
        """Return the index of the first token of a sample that is not of a prompt."""
        return 0 if self.prompts[row] is None else self.starts[row]

    def new(self, row: int, index: int) -> list[tuple[int, int]]:
        """Return the tokens that a stored block adds to one sample, without those of its prompt.

        The last block, after `cut`, also adds the given tokens that follow it.

        Returns:
            Token ids, each with the solver step of its block that revealed it, or `GIVEN`.
        """
        positions, limit = self.positions(index), self.limits[row]
        new = slice(
            max(positions.start, self.first(row)), limit if self.is_cut else min(positions.stop, limit)
        )
        return list(zip(self.tokens[row, new].tolist(), self.steps[row, new].tolist(), strict=True))

    def text(self, row: int) -> str:
        """Return the prompt and the generated text of a sample, up to the first end that is not given."""
        ids, start = self.tokens[row, : self.limits[row]].tolist(), self.starts[row]
        prompt = self.prompts[row]
        if prompt is not None:
            return prompt + TextStream(self.tokenizer, ids[:start]).add(ids[start:], last=True)
        end = ids.index(self.tokenizer.eos, start) if self.tokenizer.eos in ids[start:] else len(ids)
        return self.tokenizer.decode_all(ids[:end])

    def positions(self, index: int) -> slice:
        """Return the positions of a block's tokens in a text."""
        size = self.layout.block_tokens
        return slice(index * size, (index + 1) * size)


def canvas_of_prompts(
    prompts: Sequence[str],
    max_new_tokens: int | None,
    layout: Layout,
    tokenizer: Tokenizer,
    device: torch.device,
) -> Canvas:
    """Tokenize prompts, with mask tokens up to the end of each text; an end token ends its sample.

    Args:
        prompts: prompt of each sample.
        max_new_tokens: maximum number of tokens after each prompt; None = as many as fit.
        layout: layout of the longest text, whose blocks are used.
        tokenizer: tokenizer of the prompts.
        device: device of the tokens.

    Raises:
        UserError: if there is no prompt, or a prompt leaves no token to generate.
    """
    if not prompts:
        raise UserError("prompt must hold at least one text; None starts from an empty text")
    longest, size = layout.num_tokens, layout.block_tokens
    ids = [tokenizer.encode(text) for text in prompts]
    starts = [len(each) for each in ids]
    if max(starts) >= longest:
        raise UserError(f"prompt must be shorter than the model's {longest} tokens, not {max(starts)}")
    limits = [longest if max_new_tokens is None else min(longest, start + max_new_tokens) for start in starts]
    tokens = torch.full((len(ids), -(-max(limits) // size) * size), tokenizer.mask)
    for row, each, limit in zip(tokens, ids, limits, strict=True):
        row[: len(each)] = torch.tensor(each, dtype=torch.long)
        row[-(-limit // size) * size :] = tokenizer.eos  # these are not requested
    used = Layout((tokens.shape[1],), layout.block)
    return Canvas(tokens.to(device), prompts, starts, limits, used, tokenizer, ends=True)


def canvas_of_tokens(tokens: Tensor, layout: Layout, tokenizer: Tokenizer, device: torch.device) -> Canvas:
    """Return a canvas of given tokens (N, L) with masks among them; an end token does not end its sample.

    The text of a sample goes on after given end tokens, and ends with the first one after all given tokens.

    Args:
        tokens: token ids (N, L), with the mask's id wherever a token is to be generated.
        layout: layout of the longest text, whose blocks are used.
        tokenizer: tokenizer of the tokens.
        device: device of the tokens.

    Raises:
        UserError: if the tokens are not ids of the tokenizer, or too many.
    """
    longest, size, mask = layout.num_tokens, layout.block_tokens, tokenizer.mask
    if tokens.ndim != 2 or not tokens.numel() or tokens.shape[1] > longest or tokens.is_floating_point():
        raise UserError(f"tokens must be ids (N, L) with L up to {longest}, not {tuple(tokens.shape)}")
    if not 0 <= int(tokens.min()) <= int(tokens.max()) <= mask:
        raise UserError(f"tokens must be ids 0..{mask - 1}, or the mask, {mask}")
    count, length = tokens.shape
    padded = torch.full((count, -(-length // size) * size), mask)
    padded[:, :length] = tokens
    used = Layout((padded.shape[1],), layout.block)
    after = torch.arange(1, length + 1) * (padded[:, :length] != mask)  # of given tokens: index after them
    starts, limits = after.amax(1).tolist(), [length] * count
    return Canvas(padded.to(device), [None] * count, starts, limits, used, tokenizer, ends=False)
