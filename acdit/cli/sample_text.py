"""`acdit sample` with a model of text: options and execution. Imports torch only when it runs."""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ..model.layout import parse_dims
from ..utils.checks import option_suffix
from ..utils.errors import UserError
from ..utils.files import check_writable
from ..utils.ranges import Count, FractionAboveZero, NonNegative
from ..utils.settings import LITERAL
from .model_options import RunOptions, block_of


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
        option_suffix(*self.suffixes, out=self.out)


def run(options: TextSampleOptions) -> None:
    """Continue the prompt, fill the gaps, or generate texts without either."""
    if options.out is not None:
        check_writable(Path(options.out))
    from ..diffusion.schedulers import masked_scheduler
    from ..generation.batches import Sampling
    from ..generation.sizes import require_sampling_memory
    from ..generation.text_files import joined, save_texts, stream_texts
    from ..pipelines.text import ACDiTTextPipeline
    from .open_model import open_pipeline

    pipeline = open_pipeline(options, ACDiTTextPipeline)
    if options.scheduler is not None:
        pipeline.scheduler = masked_scheduler(options.scheduler, pipeline.scheduler, "--scheduler")
    prompt, count, began = options.prompt or "", options.samples or 1, time.perf_counter()
    block = None if options.block is None else parse_dims(options.block, "--block of texts", axes=1)[0]
    require_sampling_memory(
        pipeline, pipeline.layout, count=count, batch=count, kept=16 * pipeline.layout.num_tokens
    )
    pieces = stream_texts(
        pipeline,
        prompt,
        count,
        Sampling(options.seed, options.batch, options.steps),
        max_new_tokens=options.max_new_tokens,
        block=block,
        temperature=options.temperature,
        top_p=options.top_p,
        gaps=options.gaps,
    )
    live = options.out is None and count == 1  # several texts grow at once and are printed when finished
    written, evaluations, tokens = [""] * count, 0, 0
    for number, piece in enumerate(pieces):
        if live:
            print(piece.texts[0] if number else prompt + piece.texts[0], end="", flush=True)
        written = [text + new for text, new in zip(written, piece.texts, strict=True)]
        evaluations, tokens = piece.evaluations, tokens + piece.tokens
    seconds = time.perf_counter() - began
    texts = [prompt + text for text in written]
    took = f"tokens in {seconds:.1f} s, {tokens / seconds:.0f} a second; {evaluations} evaluations"
    if options.out is not None:
        save_texts(texts, Path(options.out))
        print(f"{options.out}: {count} texts, {tokens:,} {took}")
        return
    print("" if live else joined(texts), flush=True)
    print(f"{tokens:,} {took}", file=sys.stderr)  # only the text goes to stdout
