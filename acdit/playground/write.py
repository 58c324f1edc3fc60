"""The tabs Write and Fill: texts block by block, each token with the step that revealed it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..data.tokenizers import Tokenizer
from ..generation.batches import generators
from ..generation.gaps import parts_with_gaps, tokens_with_gaps
from ..pipelines.text import ACDiTTextPipeline
from ..pipelines.text_outputs import TextPiece
from ..utils.errors import UserError
from .cards import Card
from .jobs import Job, Stopped
from .shelf import Shelf
from .snippets import Machine, call_of, seeded


@dataclass(frozen=True)
class TextSettings:
    """Settings of a text.

    Attributes:
        text: prompt, or text with gaps, see `tokens_with_gaps`.
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
        if self.gaps:
            parts_with_gaps(self.text)


def write(job: Job, shelf: Shelf, card: Card, settings: TextSettings) -> None:
    """Continue a prompt or fill the gaps of a text, and send the tokens of each block.

    Args:
        job: job that receives the events.
        shelf: the models.
        card: the model.
        settings: settings of the text.
    """
    pipeline = shelf.opened(job, card, ACDiTTextPipeline)
    known = settings.text
    if settings.gaps:
        known = "".join(part for part, _ in parts_with_gaps(settings.text))
    check_characters(pipeline.tokenizer, known)
    began, generated = time.perf_counter(), 0
    before = [] if settings.gaps or not known else [{"text": known, "step": None, "given": True}]
    try:
        for piece in _pieces(job, pipeline, settings):
            job.check()
            tokens = [{"text": each.text, "step": each.step, "given": each.given} for each in piece.added[0]]
            job.send(
                "tokens",
                block=piece.block,
                tokens=before + tokens,
                tokens_per_second=(generated + piece.tokens) / (time.perf_counter() - began),
                evaluations=piece.evaluations,
            )
            before, generated = [], generated + piece.tokens
    except Stopped as stopped:
        is_part = generated > 0 and not settings.gaps  # the first tokens of a prompt can be made alone
        shown = replace(settings, tokens=generated) if is_part else settings
        texts = _texts(card, shown, shelf.machine)
        raise Stopped(**stopped.values, **texts, whole=not is_part) from None
    seconds, texts = time.perf_counter() - began, _texts(card, settings, shelf.machine)
    room = pipeline.layout.num_tokens - len(pipeline.tokenizer.encode(known))
    if settings.tokens is not None and generated == room < settings.tokens:
        texts["note"] = f"the model holds {pipeline.layout.num_tokens:,} tokens, with those of the beginning"
    job.post({"event": "done", "seconds": seconds, **texts})


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


def _pieces(job: Job, pipeline: ACDiTTextPipeline, settings: TextSettings) -> Iterator[TextPiece]:
    def step_done(*_: object) -> None:
        pipeline._interrupt = job.stopped

    longest = pipeline.layout.num_tokens
    tokens = tokens_with_gaps(pipeline.tokenizer, settings.text, longest) if settings.gaps else None
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


def _texts(card: Card, settings: TextSettings, machine: Machine) -> dict[str, Any]:
    """Return the Python code and the command that make the same text, see `Machine.copied`."""
    options = {
        "gaps" if settings.gaps else "prompt": settings.text or None,
        "max-new-tokens": settings.tokens,
        "block": settings.block,
        "steps": settings.steps,
        "temperature": settings.temperature,
        "seed": settings.seed,
    }
    return machine.copied(card, _python(card, settings, machine), options)


def _python(card: Card, settings: TextSettings, machine: Machine) -> str:
    given = f"prompt={settings.text!r}", ""
    if settings.gaps:
        parts = [
            f"mask * {gap}" if gap else f"encode({part!r})" for part, gap in parts_with_gaps(settings.text)
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
