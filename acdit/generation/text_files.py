"""Generate texts with a pipeline as a stream of blocks, and join texts into one file."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..pipelines.text import ACDiTTextPipeline
from ..pipelines.text_outputs import TextPiece
from ..utils.files import whole
from .batches import Sampling, generators
from .gaps import tokens_with_gaps

RULE = "-" * 80  # separator of texts


def stream_texts(
    pipeline: ACDiTTextPipeline,
    prompt: str,
    count: int,
    sampling: Sampling,
    *,
    max_new_tokens: int | None = None,
    block: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    gaps: str | None = None,
) -> Iterator[TextPiece]:
    """Continue a prompt, or fill the gaps of a text, several times; text i has the seed of the first plus i.

    Args:
        pipeline: pipeline that generates the texts.
        prompt: text to continue; "" = no prompt.
        count: number of texts.
        sampling: settings of sampling; all texts are one batch.
        max_new_tokens: maximum number of tokens after the prompt; None = as many as fit.
        block: tokens of a block; None = the pipeline's default.
        temperature: sampling temperature; None = the scheduler's.
        top_p: probability of the most likely tokens to sample from; None = the scheduler's.
        gaps: text whose gaps are filled in place of a prompt, see `tokens_with_gaps`; None = none.

    Yields:
        The text that each block adds to every text.

    Raises:
        UserError: if an argument does not fit the model, or `gaps` has no gap.
    """
    return pipeline.stream(
        prompt if gaps is None else None,
        count,
        max_new_tokens,
        sampling.steps,
        block,
        temperature,
        top_p,
        generator=generators(sampling.seed, range(count)),
        tokens=None
        if gaps is None
        else tokens_with_gaps(pipeline.tokenizer, gaps, pipeline.layout.num_tokens),
    )


def joined(texts: Sequence[str]) -> str:
    """Join texts into one, separated by a rule."""
    return f"\n{RULE}\n".join(texts)


def separated(content: str) -> list[str]:
    """Return the texts of a file that `save_texts` wrote; a file without rules holds one text."""
    return content.removesuffix("\n").split(f"\n{RULE}\n")


def save_texts(texts: Sequence[str], path: Path) -> None:
    """Write texts to a file atomically."""
    with whole(path) as temporary_path:
        temporary_path.write_bytes((joined(texts) + "\n").encode())  # without translating line ends
