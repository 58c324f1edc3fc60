"""The tabs Write and Fill: texts block by block, each token with the step that revealed it."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..data.tokenizers import Tokenizer
from ..generation.batches import generators
from ..pipelines.text import ACDiTTextPipeline
from ..pipelines.text_outputs import TextPiece
from ..utils.errors import UserError
from .cards import Card
from .jobs import Job
from .shelf import Shelf
from .snippets import Machine, call_of, seeded

GAP = re.compile(r"_{3,}")


@dataclass(frozen=True)
class TextSettings:
    """Settings of a text.

    Attributes:
        text: prompt, or text with gaps: each run of three or more underscores is a gap of so many tokens.
        gaps: whether the gaps are filled, and nothing is added.
        block: tokens of a block.
        steps: steps of a block; None = the model's.
        temperature: sampling temperature.
        seed: seed of the tokens.
        tokens: maximum number of new tokens; of no meaning with gaps.
    """

    text: str
    gaps: bool
    block: int
    steps: int | None
    temperature: float
    seed: int
    tokens: int | None = None

    def __post_init__(self) -> None:
        if self.gaps and GAP.search(self.text) is None:
            raise UserError(
                "the text has no gap: write ___ where tokens are missing, one underscore for each"
            )


def write(job: Job, shelf: Shelf, card: Card, settings: TextSettings) -> None:
    """Continue a prompt or fill the gaps of a text, and send the tokens of each block.

    Args:
        job: job that receives the events.
        shelf: the models.
        card: the model.
        settings: settings of the text.
    """
    pipeline = shelf.opened(job, card, ACDiTTextPipeline)
    known = GAP.sub("", settings.text) if settings.gaps else settings.text
    check_characters(pipeline.tokenizer, known)
    began, generated = time.perf_counter(), 0
    before = [] if settings.gaps or not known else [{"text": known, "step": None, "given": True}]
    for piece in _pieces(job, pipeline, settings):
        job.check()
        generated += piece.tokens
        tokens = [{"text": each.text, "step": each.step, "given": each.given} for each in piece.added[0]]
        job.send(
            "tokens",
            block=piece.block,
            tokens=before + tokens,
            tokens_per_second=generated / (time.perf_counter() - began),
            evaluations=piece.evaluations,
        )
        before = []
    machine = shelf.machine
    job.send(
        "done",
        seconds=time.perf_counter() - began,
        python=_python(card, settings, machine),
        command=None if settings.gaps else _command(card, settings, machine),
    )


def check_characters(tokenizer: Tokenizer, text: str) -> None:
    """Raise UserError if a text has characters that a tokenizer does not know, and would lose."""
    model = tokenizer.description().get("state", {}).get("model", {})
    vocabulary, unknown = model.get("vocab"), model.get("unk_token")
    lost = vocabulary.get(unknown) if isinstance(vocabulary, dict) else model.get("unk_id")
    unwritten = [each for each in dict.fromkeys(text) if not each.isspace() and not tokenizer.encode(each)]
    if lost is not None and lost in tokenizer.encode(text):
        unwritten += [each for each in dict.fromkeys(text) if lost in tokenizer.encode(each)]
        if not unwritten:
            raise UserError("the model's tokenizer does not know a word of the text: write others")
    if unwritten:
        listed = " ".join(dict.fromkeys(unwritten[:10]))
        raise UserError(f"the model's tokenizer does not know these characters: {listed}; leave them out")


def tokens_with_gaps(tokenizer: Tokenizer, text: str) -> torch.Tensor:
    """Return the ids (1, L) of a text, with the mask's id for every underscore of a gap."""
    ids: list[int] = []
    for part in re.split(f"({GAP.pattern})", text):
        ids += [tokenizer.mask] * len(part) if GAP.fullmatch(part) else tokenizer.encode(part)
    return torch.tensor([ids])


def _pieces(job: Job, pipeline: ACDiTTextPipeline, settings: TextSettings) -> Iterator[TextPiece]:
    def step_done(*_: object) -> None:
        pipeline._interrupt = job.stopped

    tokens = tokens_with_gaps(pipeline.tokenizer, settings.text) if settings.gaps else None
    return pipeline.stream(
        None if settings.gaps else settings.text,
        max_new_tokens=settings.tokens,
        num_inference_steps=settings.steps,
        block=settings.block,
        tokens=tokens,
        temperature=settings.temperature,
        generator=generators(settings.seed, [0]),
        callback_on_step_end=step_done,
        callback_on_step_end_tensor_inputs=[],
    )


def _python(card: Card, settings: TextSettings, machine: Machine) -> str:
    given = f"prompt={settings.text!r}", ""
    if settings.gaps:
        parts = [
            f"mask * {len(part)}" if GAP.fullmatch(part) else f"encode({part!r})"
            for part in re.split(f"({GAP.pattern})", settings.text)
            if part
        ]
        given = (
            "tokens=tokens",
            (
                "encode, mask = pipe.tokenizer.encode, [pipe.tokenizer.mask]\n"
                f"tokens = torch.tensor([{' + '.join(parts)}])\n"
            ),
        )
    name, _, value = given[0].partition("=")
    call = call_of(
        "pipe",
        {
            name: value,
            "max_new_tokens": None if settings.tokens is None else str(settings.tokens),
            "num_inference_steps": None if settings.steps is None else str(settings.steps),
            "block": str(settings.block),
            "temperature": repr(settings.temperature),
            "generator": seeded(settings.seed),
        },
        ".texts[0]",
    )
    return f"import torch\n\nimport acdit\n\n{machine.loading(card)}{given[1]}text = {call}\nprint(text)\n"


def _command(card: Card, settings: TextSettings, machine: Machine) -> str:
    options = {
        "prompt": settings.text or None,
        "max-new-tokens": settings.tokens,
        "block": settings.block,
        "steps": settings.steps,
        "temperature": settings.temperature,
        "seed": settings.seed,
    }
    return machine.command(card, options)
