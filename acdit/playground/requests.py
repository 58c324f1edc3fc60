"""The requests of the page, checked value by value before a job begins."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..model.layout import dims, parse_dims
from ..utils.errors import UserError
from ..utils.kinds import BOOL, TEXT, Kind, at_least, list_of, whole_number
from ..utils.untrusted import parse_json, shown
from .cards import MOST_STEPS, Card
from .write import TextSettings

LARGEST_SEED = 2**53 - 1  # the largest whole number of JavaScript
MOST_GUIDANCE = 100.0
MOST_PICTURES = 8
MOST_FRAMES = 4096
MOST_TEMPERATURE = 10.0

STEPS = whole_number(1, MOST_STEPS)
SEED = whole_number(0, LARGEST_SEED)
GUIDANCE = Kind(
    f"a number from {-MOST_GUIDANCE:g} to {MOST_GUIDANCE:g}",
    lambda value: type(value) in (int, float) and abs(value) <= MOST_GUIDANCE,  # which NaN is not
)
TEMPERATURE = Kind(
    f"a number from 0 to {MOST_TEMPERATURE:g}",
    lambda value: type(value) in (int, float) and 0 <= value <= MOST_TEMPERATURE,
)
LABEL = at_least(0).or_none()


def parse(body: bytes) -> object:
    """Return the value of a JSON request.

    Raises:
        UserError: if it is not JSON.
    """
    try:
        return parse_json(body, "the request")
    except RecursionError as error:
        raise UserError("the request is nested too deeply") from error


def check_request(values: object, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """Return the values of a request after checking them; a missing optional one is None.

    Raises:
        UserError: if it is no object, lacks a value, has an unknown one, or one of another kind.
    """
    if not isinstance(values, dict):
        raise UserError(f"the request must be a JSON object, not {shown(values)}")
    for key in values:
        if key not in kinds:
            raise UserError(f"the request has an unknown key {shown(key)}; known are {', '.join(kinds)}")
    for key, kind in kinds.items():
        if key not in values and not kind.optional:
            raise UserError(f"the request lacks {key!r}")
        if key in values and not kind.accepts(values[key]):
            raise UserError(f"{key} must be {kind.described}, not {shown(values[key])}")
    return {key: values.get(key) for key in kinds}


def checked_block(card: Card, text: str) -> tuple[int, ...]:
    """Return a block size, which must be one of those that the page offers for a model.

    Raises:
        UserError: if it is not.
    """
    offered = [dims(block) for block in card.blocks]
    if text not in offered:
        raise UserError(f"block must be one of {', '.join(offered)}, not {shown(text)}")
    return parse_dims(text)


def checked_label(card: Card, label: int | None) -> int | None:
    """Return a class of a model; None = no class.

    Raises:
        UserError: if the model has no such class.
    """
    if label is not None and label >= card.classes:
        known = (
            f"one of 0 to {card.classes - 1}, or null" if card.classes else "null: the model has no classes"
        )
        raise UserError(f"label must be {known}, not {shown(label)}")
    return label


PICTURE = {
    "model": TEXT,
    "label": LABEL.if_given(),
    "block": TEXT,
    "steps": STEPS,
    "guidance": GUIDANCE,
    "seed": SEED,
}
FINISH = PICTURE | {"image": TEXT, "keep": at_least(0), "count": whole_number(1, MOST_PICTURES).if_given()}
VIDEO = PICTURE | {
    "labels_by_block": list_of(at_least(0), range(1, MOST_FRAMES)).or_none().if_given(),
    "frames": whole_number(1, MOST_FRAMES).or_none().if_given(),
    "clip": TEXT.or_none().if_given(),
    "hold": BOOL.if_given(),
}
CHANGE = {"job": TEXT, "label": LABEL}
PREVIEW = {"model": TEXT, "image": TEXT, "block": TEXT.if_given()}
HOW = {"model": TEXT, "block": TEXT}
STOP = {"job": TEXT}
_TOKENS = {
    "model": TEXT,
    "block": at_least(1),
    "steps": at_least(1).or_none().if_given(),
    "temperature": TEMPERATURE,
    "seed": SEED,
}
WRITE = _TOKENS | {"prompt": TEXT, "tokens": at_least(1)}
FILL = _TOKENS | {"text": TEXT}


def checked_keep(card: Card, block: tuple[int, ...], keep: int) -> int:
    """Return the number of blocks of a picture that are kept.

    Raises:
        UserError: if nothing would be kept, or nothing be left to draw.
    """
    blocks = card.layout.with_block(block).num_blocks
    if blocks == 1:
        raise UserError("one block is the whole picture, so nothing can be kept: choose a smaller block")
    if not 1 <= keep < blocks:
        raise UserError(
            f"keep must be at least 1 and at most {blocks - 1}, since the picture has {blocks} blocks, "
            f"not {shown(keep)}"
        )
    return keep


def checked_frames(card: Card, block: tuple[int, ...], frames: int | None) -> int | None:
    """Return the number of new frames of a video; None = without end.

    Raises:
        UserError: if they are not whole blocks.
    """
    size = frames_of_block(card, block)
    if frames is not None and frames % size:
        raise UserError(f"frames must be a multiple of {size}, the frames of a block, not {frames}")
    return frames


def frames_of_block(card: Card, block: tuple[int, ...]) -> int:
    """Return the number of frames of a block of a model of video."""
    return block[0] * card.layout.patch[0]


@dataclass(frozen=True)
class Settings:
    """Settings that pictures and clips share.

    Attributes:
        label: class; None = none.
        block: tokens of a block.
        steps: solver steps of a block.
        guidance: guidance scale.
        seed: seed of the noise.
    """

    label: int | None
    block: tuple[int, ...]
    steps: int
    guidance: float
    seed: int


def read_settings(card: Card, values: Mapping[str, Any]) -> Settings:
    """Return the settings in the checked values of a request.

    Raises:
        UserError: if the model has no such block size or class.
    """
    return Settings(
        checked_label(card, values["label"]),
        checked_block(card, values["block"]),
        values["steps"],
        float(values["guidance"]),
        values["seed"],
    )


def read_prompt(card: Card, values: Mapping[str, Any]) -> TextSettings:
    """Return the settings of a text that continues a prompt.

    Raises:
        UserError: if the model has no such block size, there are more steps than tokens of a block, or more
            tokens than the model holds.
    """
    tokens, most = values["tokens"], card.layout.num_tokens
    if tokens > most:
        raise UserError(f"tokens must be at most {most:,}, as many as the model holds, not {shown(tokens)}")
    return TextSettings(values["prompt"], False, *_text_settings(card, values), tokens)


def read_gaps(card: Card, values: Mapping[str, Any]) -> TextSettings:
    """Return the settings of a text whose gaps are filled.

    Raises:
        UserError: if it has no gap, the model has no such block size, or there are more steps than tokens of
            a block.
    """
    return TextSettings(values["text"], True, *_text_settings(card, values))


def _text_settings(card: Card, values: Mapping[str, Any]) -> tuple[int, int | None, float, int]:
    (block,) = checked_block(card, str(values["block"]))
    steps = values["steps"]
    if steps is not None and steps > block:
        raise UserError(f"steps must be from 1 to {block}, the tokens of a block, not {shown(steps)}")
    return block, steps, float(values["temperature"]), values["seed"]
