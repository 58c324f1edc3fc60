"""Code and commands that make the same results as the page."""

import shlex
from collections.abc import Sequence
from typing import Any

import torch

from ..model.layout import dims
from ..utils.names import class_id
from ..utils.settings import quoted_value
from .cards import Card

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

    def loading(self, card: Card) -> str:
        """Return the Python statements that load a model as `pipe`."""
        kind = KINDS[card.modality.name]
        arguments = [repr(card.source)]
        if self.dtype != torch.float32:
            arguments.append(repr(self.dtype))
        arguments.append(f"kind=acdit.{kind}")
        move = "" if self.device.type == "cpu" else f"pipe.to({str(self.device)!r})\n"
        return f"pipe = acdit.load_pipeline({', '.join(arguments)})\n{move}"

    def command(self, card: Card, options: dict[str, Any]) -> str:
        """Return a command line of `acdit sample`; options that are None are left out."""
        given = {"model": card.source, **options}
        if self.device.type != "cpu" or torch.cuda.is_available():  # where the default is the GPU
            given["device"] = self.device
        if self.dtype != torch.float32:
            given["dtype"] = str(self.dtype).removeprefix("torch.")
        words: list[str] = []
        for key, value in given.items():
            word = "" if value is None else _spelled(value)
            if word.startswith("--"):  # a word of its own would be an option
                words.append(f"--{key}={word}")
            elif value is not None:
                words += [f"--{key}", word]
        return shlex.join(["acdit", "sample", *words])


def call_of(function: str, arguments: dict[str, str | None], result: str) -> str:
    """Return a call over several lines, with its arguments as code; those that are None are left out."""
    lines = "".join(f"    {name}={code},\n" for name, code in arguments.items() if code is not None)
    return f"{function}(\n{lines}){result}"


def seeded(seed: int, count: int = 1) -> str:
    """Return the code of the generators of samples."""
    if count == 1:
        return f"[torch.Generator().manual_seed({seed})]"
    return f"[torch.Generator().manual_seed({seed} + index) for index in range({count})]"


def label_word(card: Card, label: int | None) -> str | None:
    """Return the class as `--labels` takes it; None if it takes none for this model, or has no word for it.

    Without the option, a model with classes draws several of them.
    """
    if label is None:
        return None
    names = {index: name for index, name in enumerate(card.class_names) if name}
    words = (word for word in (names[label], str(label)) if list(names.values()).count(word) < 2)
    word = next((word for word in words if class_id(word, names, card.classes) == label), None)
    return None if word is None else quoted_value(word)


def has_label_word(card: Card, label: int | None) -> bool:
    """Return whether a command line can ask for this class."""
    return (label is None and not card.classes) or label_word(card, label) is not None


def block_code(block: Sequence[int]) -> str:
    """Return the code of a block size."""
    return repr(tuple(block))


def _spelled(value: object) -> str:
    return dims(value) if isinstance(value, tuple) else str(value)
