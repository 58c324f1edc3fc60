"""Generate texts with a pipeline as a stream of blocks, and join texts into one file."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..pipelines.callbacks import StepFunction
from ..pipelines.text import ACDiTTextPipeline
from ..pipelines.text_outputs import TextPiece
from ..utils.files import whole
from .batches import Sampling, generators, in_batches
from .gaps import tokens_with_gaps

RULE = "-" * 80  # separator of texts


@dataclass(frozen=True)
class FinishedTexts:
    """Texts of one batch and their cost.

    Attributes:
        texts: text of each sample, without its prompt.
        tokens: number of generated tokens in all samples, including end tokens.
        evaluations: number of network calls.
    """

    texts: list[str]
    tokens: int
    evaluations: int


def stream_texts(
    pipeline: ACDiTTextPipeline,
    prompt: str,
    rows: Sequence[int],
    on_step: StepFunction | None = None,
    *,
    sampling: Sampling,
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
        rows: indices of the texts, which are one batch.
        on_step: callback of the pipeline's call (`callback_on_step_end`); None = none.
        sampling: settings of sampling.
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
        len(rows),
        max_new_tokens,
        sampling.steps,
        block,
        temperature,
        top_p,
        generator=generators(sampling.seed, rows),
        callback_on_step_end=on_step,
        tokens=None
        if gaps is None
        else tokens_with_gaps(pipeline.tokenizer, gaps, pipeline.layout.num_tokens),
    )


def text_batches(
    stream: Callable[[list[int], StepFunction], Iterable[TextPiece]], count: int, batch: int
) -> Iterator[FinishedTexts]:
    """Generate texts 0..count - 1 in batches, with a progress bar.

    Args:
        stream: function that streams the texts with the given indices, see `stream_texts`.
        count: total number of texts.
        batch: number of texts generated at once.

    Yields:
        The texts of each batch.
    """
    return in_batches(lambda rows, on_step: finished_texts(stream(rows, on_step)), count, batch)


def finished_texts(pieces: Iterable[TextPiece]) -> FinishedTexts:
    """Return the texts that the pieces of a stream join to."""
    parts, tokens, evaluations = [], 0, 0
    for piece in pieces:
        parts.append(piece.texts)
        tokens, evaluations = tokens + piece.tokens, piece.evaluations
    return FinishedTexts(["".join(text) for text in zip(*parts, strict=True)], tokens, evaluations)


def joined(texts: Iterable[str]) -> str:
    """Join texts into one, separated by a rule."""
    return f"\n{RULE}\n".join(texts)


def separated(content: str) -> list[str]:
    """Return the texts of a file that `save_texts` wrote; a file without rules holds one text."""
    return content.removesuffix("\n").split(f"\n{RULE}\n")


def save_texts(texts: Iterable[str], path: Path) -> None:
    """Write texts to a file atomically, one by one."""
    with whole(path) as temporary_path, temporary_path.open("wb") as file:  # no translation of line ends
        for number, text in enumerate(texts):
            file.write((f"\n{RULE}\n" * (number > 0) + text).encode())
        file.write(b"\n")
