"""Texts that a pipeline writes: as blocks are finished, and joined into one file."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..pipelines.text import ACDiTTextPipeline
from ..pipelines.text_outputs import TextPiece
from ..utils.files import whole
from .batches import Sampling, generators

RULE = "-" * 80  # between texts


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
) -> Iterator[TextPiece]:
    """Continue a prompt several times; text i has the seed of the first plus i.

    Args:
        pipeline: that writes.
        prompt: to continue; "" = from nothing.
        count: texts.
        sampling: how; all texts are one batch.
        max_new_tokens, block, temperature, top_p: see `ACDiTTextPipeline`.

    Yields:
        What each block adds to every text.
    """
    return pipeline.stream(
        prompt,
        count,
        max_new_tokens,
        sampling.steps,
        block,
        temperature,
        top_p,
        generator=generators(sampling.seed, range(count)),
    )


def joined(texts: Sequence[str]) -> str:
    """Join texts into one, with a rule between them."""
    return f"\n{RULE}\n".join(texts)


def save_texts(texts: Sequence[str], path: Path) -> None:
    """Write texts into a file, whole or not at all."""
    with whole(path) as temporary_path:
        temporary_path.write_text(joined(texts) + "\n")
