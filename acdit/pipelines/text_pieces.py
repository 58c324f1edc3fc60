"""Pieces of text that finished blocks add, for streams."""

from collections.abc import Iterator

from ..data.text_stream import TextStream
from ..diffusion.generate import Block
from .canvas import GIVEN, Canvas
from .text_outputs import TextPiece, TextToken


def text_pieces(canvas: Canvas, blocks: Iterator[Block]) -> Iterator[TextPiece]:
    """Yield the texts that each finished block adds to the prompts of a canvas.

    Args:
        canvas: tokens of all samples, in which the blocks are stored.
        blocks: finished blocks, in order.
    """
    writers = [_Writer(canvas, row) for row in range(len(canvas.starts))]
    evaluations = 0
    for finished in blocks:
        evaluations += finished.evaluations
        complete = not bool((finished.sample == canvas.tokenizer.mask).any())
        added, texts = [], []
        for writer in writers:
            tokens, text = writer.add(finished.index)
            added.append(tokens)
            texts.append(text)
        generated = sum(not token.given for tokens in added for token in tokens)
        yield TextPiece(texts, evaluations, generated, finished.index, added, complete)


class _Writer:
    """Incremental form of `Canvas.text`: the texts of the tokens of one sample, block by block."""

    def __init__(self, canvas: Canvas, row: int):
        self.canvas, self.row, self.stop = canvas, row, canvas.first(row)
        self.stream = TextStream(canvas.tokenizer, canvas.tokens[row, : self.stop].tolist())
        self.before = ""  # spelling of a given end, which is part of the text if more follows

    def add(self, index: int) -> tuple[list[TextToken], str]:
        """Return the tokens that a block adds, and their text."""
        new = self.canvas.new(self.row, index)
        texts = self._texts([token for token, _ in new], last=self.canvas.ended(self.row, index))
        tokens = [
            TextToken(token, text, None if step == GIVEN else step)
            for (token, step), text in zip(new, texts, strict=True)
        ]
        # Without new tokens, an interrupted text may still end with an incomplete character.
        rest = "" if new else self.stream.add([], last=self.canvas.ended(self.row, index))
        return tokens, "".join(texts) + rest

    def _texts(self, ids: list[int], last: bool) -> list[str]:
        """Return what each token adds; a given end begins a new part of the text."""
        tokenizer, texts = self.canvas.tokenizer, []
        while ids:
            size = ids.index(tokenizer.eos) + 1 if tokenizer.eos in ids else len(ids)
            part, ids = ids[:size], ids[size:]
            self.stop += size
            is_given_end = part[-1] == tokenizer.eos and self.stop <= self.canvas.starts[self.row]
            added = self.stream.parts(part, last and not ids)
            if is_given_end or part != [tokenizer.eos]:
                added[0] = self.before + added[0]
            self.before = ""
            if is_given_end:
                self.stream, self.before = TextStream(tokenizer), tokenizer.end
            texts += added
        return texts
