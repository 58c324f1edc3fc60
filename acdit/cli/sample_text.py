"""`acdit sample` with a model of text: options and execution. Imports torch only when it runs."""

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..model.layout import parse_dims
from ..utils.checks import option_suffix
from ..utils.errors import UserError
from ..utils.files import check_writable
from ..utils.ranges import Count, FractionAboveZero, NonNegative
from ..utils.settings import LITERAL
from .model_options import RunOptions, block_of

if TYPE_CHECKING:
    from ..pipelines.text_outputs import TextPiece


@dataclass
class TextSampleOptions(RunOptions):
    """Generate texts block by block: print them while they grow, or write them to a .txt file."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    example: ClassVar[str] = (
        "acdit sample --prompt 'To be' --max-new-tokens 200\n"
        "  acdit sample --prompt 'To be' --scheduler left --temperature 0\n"
        "  acdit sample --gaps 'To be, or ___ to be'"
    )

    prompt: str | None = field(default=None, metadata=LITERAL)
    """Text to continue; default: none."""
    gaps: str | None = field(default=None, metadata=LITERAL)
    """Text whose gaps are filled, in place of --prompt: each run of at least three underscores is a gap, an
    underscore for each token."""
    max_new_tokens: Count | None = None
    """Maximum number of tokens after the prompt; default: up to the context length."""
    temperature: NonNegative | None = None
    """Sampling temperature of the tokens, 0 = the most likely ones; default: 1."""
    top_p: FractionAboveZero | None = None
    """Sample only from the most likely tokens that together have this probability; default: 1."""
    scheduler: str | None = None
    """Sampler of the tokens of a block: first-hitting (one by one in random order), left, right,
    lowest-entropy (one by one, the most certain prediction first), ancestral or confidence (several at once);
    default: the model's own."""
    samples: Count | None = None
    """Number of texts; default: 1."""
    block: str | None = None
    """Block size in tokens, such as 16; default: the model's own."""
    out: str | None = None
    """.txt file to write; default: print to the terminal."""

    def __post_init__(self) -> None:
        super().__post_init__()
        block_of(self.block)
        if self.gaps is not None and (self.prompt is not None or self.max_new_tokens is not None):
            raise UserError("--gaps fills a text and adds nothing: leave out --prompt and --max-new-tokens")
        if self.temperature == 0 and self.top_p is not None:
            raise UserError("--temperature 0 takes the most likely tokens: leave out --top-p")
        option_suffix(*self.suffixes, out=self.out)


def run(options: TextSampleOptions) -> None:
    """Continue the prompt, fill the gaps, or generate texts without either."""
    if options.out is not None:
        check_writable(Path(options.out))
    from ..diffusion.schedulers import masked_scheduler
    from ..generation.batches import Sampling
    from ..generation.sizes import require_sampling_memory
    from ..generation.text_files import finished_texts, joined, save_texts, stream_texts, text_batches
    from ..pipelines.text import ACDiTTextPipeline
    from .open_model import open_pipeline

    pipeline = open_pipeline(options, ACDiTTextPipeline)
    if options.scheduler is not None:
        pipeline.scheduler = masked_scheduler(options.scheduler, pipeline.scheduler, "--scheduler")
    prompt, count, began = options.prompt or "", options.samples or 1, time.perf_counter()
    block = None if options.block is None else parse_dims(options.block, "--block of texts", axes=1)[0]
    in_memory = count if options.out is None else min(options.batch, count)  # a file is written by batches
    kept = 16 * pipeline.layout.num_tokens
    require_sampling_memory(pipeline, pipeline.layout, count=in_memory, batch=options.batch, kept=kept)
    stream = partial(
        stream_texts,
        pipeline,
        prompt,
        sampling=Sampling(options.seed, options.batch, options.steps),
        max_new_tokens=options.max_new_tokens,
        block=block,
        temperature=options.temperature,
        top_p=options.top_p,
        gaps=options.gaps,
    )
    stream([0])  # checks the arguments, before a file is begun
    live = options.out is None and count == 1  # several texts grow at once and are printed when finished
    tokens, evaluations = 0, 0

    def generated() -> Iterator[str]:
        nonlocal tokens, evaluations
        single = [finished_texts(_printed(stream([0]), prompt))] if live else None
        for part in single or text_batches(stream, count, options.batch):
            tokens, evaluations = tokens + part.tokens, evaluations + part.evaluations
            yield from (prompt + text for text in part.texts)

    if options.out is None:
        texts = joined(generated())
        print("" if live else texts, flush=True)
    else:
        save_texts(generated(), Path(options.out))
    seconds = time.perf_counter() - began
    took = f"tokens in {seconds:.1f} s, {tokens / seconds:.0f} a second; {evaluations} evaluations"
    if options.out is not None:
        print(f"{options.out}: {count} texts, {tokens:,} {took}")
    else:
        print(f"{tokens:,} {took}", file=sys.stderr)  # only the text goes to stdout


def _printed(pieces: "Iterable[TextPiece]", prompt: str) -> "Iterator[TextPiece]":
    """Yield the pieces of a single text, each after it was printed."""
    for number, piece in enumerate(pieces):
        print(piece.texts[0] if number else prompt + piece.texts[0], end="", flush=True)
        yield piece
