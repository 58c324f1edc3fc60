"""Write texts with a pipeline: to the terminal as blocks are finished, or into a file."""

import sys
import time
from pathlib import Path

import torch

from ..model.layout import parse_dims
from ..pipelines.text import ACDiTTextPipeline
from ..utils.files import whole
from .options import SampleOptions

RULE = "-" * 80  # between texts


def write_texts(pipeline: ACDiTTextPipeline, options: SampleOptions) -> str:
    """Continue the prompt, or write from nothing; text i has seed i of the command's. What to say of it."""
    prompt, count, began = options.prompt or "", options.samples or 1, time.perf_counter()
    pieces = pipeline.stream(
        prompt,
        count,
        options.max_new_tokens,
        options.steps,
        None if options.block is None else parse_dims(options.block, "--block of texts", axes=1)[0],
        options.temperature,
        options.top_p,
        generator=[torch.Generator().manual_seed(options.seed + row) for row in range(count)],
    )
    live = options.out is None and count == 1  # several grow at once, and are shown when they are finished
    written, evaluations, tokens = [""] * count, 0, 0
    for number, piece in enumerate(pieces):
        if live:
            print(piece.texts[0] if number else prompt + piece.texts[0], end="", flush=True)
        written = [text + new for text, new in zip(written, piece.texts, strict=True)]
        evaluations, tokens = piece.evaluations, tokens + piece.tokens
    seconds = time.perf_counter() - began
    joined = f"\n{RULE}\n".join(prompt + text for text in written)
    if options.out is not None:
        with whole(Path(options.out)) as aside:
            aside.write_text(joined + "\n")
    else:
        print("" if live else joined, flush=True)
    texts = f"{options.out}: {count} texts, {tokens:,}" if options.out else f"{tokens:,}"
    said = f"{texts} tokens in {seconds:.1f} s, {tokens / seconds:.0f} a second; {evaluations} evaluations"
    if options.out is None:
        print(said, file=sys.stderr)  # the text alone goes where the output goes
        return ""
    return said + "\n"
