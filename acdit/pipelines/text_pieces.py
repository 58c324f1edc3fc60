"""Pieces of text that finished blocks add, for streams."""

from collections.abc import Iterator

from ..data.tokenizers import TextStream, Tokenizer
from ..diffusion.generate import Block
from .canvas import Canvas
from .text_outputs import TextPiece


def text_pieces(tokenizer: Tokenizer, canvas: Canvas, blocks: Iterator[Block]) -> Iterator[TextPiece]:
    """Yield the texts that each finished block adds to the prompts of a canvas.

    Args:
        tokenizer: tokenizer of the texts.
        canvas: tokens of all samples, in which the blocks are stored.
        blocks: finished blocks, in order.
    """
    prompts = [row[:start].tolist() for row, start in zip(canvas.tokens, canvas.starts, strict=True)]
    streams = [TextStream(tokenizer, ids) for ids in prompts]
    evaluations = 0
    for finished in blocks:
        evaluations += finished.evaluations
        last = canvas.done(finished.index)
        new = [canvas.new(row, finished.index) for row in range(len(streams))]
        texts = [each.add(ids, last) for each, ids in zip(streams, new, strict=True)]
        yield TextPiece(texts, evaluations, sum(map(len, new)))
