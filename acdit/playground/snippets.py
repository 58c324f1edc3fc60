"""Code and commands that make the same results as the page."""

import os
import shlex
from collections.abc import Sequence
from typing import Any

import torch

from ..model.layout import dims
from ..utils.names import class_id
from ..utils.settings import quoted_value
from .cards import Card

LONGEST_COMMAND = 100_000  # bytes; Linux passes at most 128 KiB in one word
MISSING = "\0"  # value of an option for which there is no word; no argument can hold this character
KINDS = {
    "image": "ACDiTImagePipeline",
    "video": "ACDiTVideoPipeline",
    "text": "ACDiTTextPipeline",
}


class Machine:
    """Device and precision of the models of the page, and the code that runs them so.

    Args:
        device: device of the models.
        dtype: precision of the networks.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype):
        self.device, self.dtype = device, dtype

    @property
    def precision(self) -> dict[str, Any]:
        """Return the option of a command for the precision, if it is not the default."""
        return {} if self.dtype == torch.float32 else {"dtype": str(self.dtype).removeprefix("torch.")}

    def loading(self, card: Card) -> str:
        """Return the Python statements that load a model as `pipe`."""
        kind = KINDS[card.modality.name]
        arguments = [repr(card.source)]
        if self.dtype != torch.float32:
            arguments.append(repr(self.dtype))
        arguments.append(f"kind=acdit.{kind}")
        move = "" if self.device.type == "cpu" else f"pipe.to({str(self.device)!r})\n"
        return f"pipe = acdit.load_pipeline({', '.join(arguments)})\n{move}"

    def copied(self, card: Card, python: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the texts that the page offers to copy: Python code, and a command line of `acdit sample`.

        The command is None, and `without_command` the reason, if a shell would not take it.

        Args:
            card: the model.
            python: the code.
            options: options of the command, see `command_line`; `MISSING` = there is no word for it.
        """
        given = {"model": card.source, **options}
        if self.device.type != "cpu" or torch.cuda.is_available():  # where the default is the GPU
            given["device"] = self.device
        given |= self.precision
        if MISSING in (given.get("labels"), given.get("labels-by-block")):
            return _without(python, "both the name and the number of the class are names of other classes")
        if any("\0" in str(value) for value in given.values()):
            return _without(python, "no argument of a command can hold the character NUL")
        if not all(_can_be_typed(str(value)) for value in given.values()):
            return _without(python, "no argument of a command can hold half of a surrogate pair")
        command = command_line("sample", given)
        if len(os.fsencode(command)) > LONGEST_COMMAND:
            return _without(python, f"it would be longer than {LONGEST_COMMAND:,} bytes")
        return {"python": python, "command": command}


def command_line(name: str, options: dict[str, Any]) -> str:
    """Return a command line of `acdit`, quoted for a shell.

    Args:
        name: name of the command.
        options: values by the names of their options; None leaves an option out, and True has no value.
    """
    words: list[str] = []
    for key, value in options.items():
        if value is True:
            words.append(f"--{key}")
            continue
        word = "" if value is None else _spelled(value)
        if word.startswith("-"):  # a word of its own would be an option
            words.append(f"--{key}={word}")
        elif value is not None:
            words += [f"--{key}", word]
    return shlex.join(["acdit", name, *words])


def call_of(function: str, arguments: dict[str, str | None], result: str) -> str:
    """Return a call over several lines, with its arguments as code; those that are None are left out."""
    lines = "".join(f"    {name}={code},\n" for name, code in arguments.items() if code is not None)
    return f"{function}(\n{lines}){result}"


def seeded(seed: int, count: int = 1) -> str:
    """Return the code of the generators of samples."""
    if count == 1:
        return f"[torch.Generator().manual_seed({seed})]"
    return f"[torch.Generator().manual_seed({seed} + index) for index in range({count})]"


def label_options(card: Card, label: int | None) -> dict[str, Any]:
    """Return the options of `acdit sample` that ask for a class, or for none."""
    if label is None:  # without an option, a model with classes draws several of them
        return {"no-class": True if card.classes else None}
    return {"labels": label_word(card, label)}


def label_word(card: Card, label: int | None) -> str:
    """Return the class as a list of classes on a command line spells it; `MISSING` if no word names it alone.

    No class, of a block, is an empty name.
    """
    if label is None:
        return quoted_value("")
    names = {index: name for index, name in enumerate(card.class_names) if name}
    words = (word for word in (names[label], str(label)) if list(names.values()).count(word) < 2)
    named = (word for word in words if _can_be_typed(word))
    word = next((word for word in named if class_id(word, names, card.classes) == label), None)
    return MISSING if word is None else quoted_value(word)


def block_code(block: Sequence[int]) -> str:
    """Return the code of a block size."""
    return repr(tuple(block))


def _can_be_typed(word: str) -> bool:
    """Return whether an argument of a command can hold a text."""
    try:
        os.fsencode(word)
    except UnicodeEncodeError:
        return False
    return True


def _without(python: str, reason: str) -> dict[str, Any]:
    return {"python": python, "command": None, "without_command": reason}


def _spelled(value: object) -> str:
    return dims(value) if isinstance(value, tuple) else str(value)
