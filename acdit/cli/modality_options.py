"""Choose the option class of a command by the modality of the model. Does not import torch."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from ..modalities.modality import Modality
from ..modalities.table import MODALITIES
from ..pipelines.folders import folder_modality, pipeline_folder
from ..utils.errors import UserError, in_words
from ..utils.references import load_object
from ..utils.settings import fields_of, nearest, spelled
from .model_options import ModelOptions

UNSET = ("", "null")  # values that stand for an omitted option
OFF = (*UNSET, "false")


class Given(NamedTuple):
    """Option as typed on the command line.

    Attributes:
        key: name of the option, with underscores.
        value: value of the option; None if there is none.
        words: arguments that the option takes up on the command line.
    """

    key: str
    value: str | None
    words: tuple[str, ...]


def option_class(command: str, modality: Modality) -> type[ModelOptions]:
    """Return the option class of a command for models of a modality."""
    return cast(type[ModelOptions], load_object(getattr(modality, f"{command}_options")))


def modalities_of(command: str) -> list[Modality]:
    """Return the modalities whose models a command can use."""
    return [modality for modality in MODALITIES.values() if modality.runs(command)]


def choose_modality(command: str, argv: Sequence[str]) -> tuple[Modality, list[str]]:
    """Return the modality of the model that the options name, and check that they are for such models.

    If no model is named, return the modality that most of the options are for.

    Args:
        command: `sample` or `evaluate`.
        argv: arguments after the command.

    Returns:
        The modality, and the arguments without options of other modalities that are switched off.

    Raises:
        UserError: if the model cannot be found, or if options are only for models of other modalities.
    """
    given = _given(argv)
    classes = {modality.name: option_class(command, modality) for modality in modalities_of(command)}
    known = {name: frozenset(fields_of(cls)) for name, cls in classes.items()}

    def users(option: Given) -> list[str]:
        """Return the modalities whose models an option can be used with; of files, decide by the suffix."""
        users = [name for name in classes if option.key in known[name]]
        if option.key == "out" and option.value:
            suffix = Path(option.value).suffix.lower()
            return [name for name in users if suffix in (classes[name].suffixes or (suffix,))]
        if option.key == "samples" and option.value:
            suffixes = _suffixes_of(Path(os.path.expanduser(option.value)))
            return [name for name in users if suffixes <= {*classes[name].sample_suffixes}] or users
        return users

    def is_claimed(option: Given, cls: type[ModelOptions]) -> bool:
        """Return whether an option speaks for models of a class of options, though others have it too."""
        suffix = Path(option.value or "").suffix.lower() if option.key == "data" else ""
        named = {option.key, f"{option.key}={option.value}"}
        return not named.isdisjoint(cls.claims) or suffix in cls.sample_suffixes

    literal = {key for cls in classes.values() for key, field in fields_of(cls).items() if field.literal}
    off_values = {option: ("",) if option.key in literal else OFF for option in given}
    active = [option for option in given if option.value not in off_values[option]]
    named = [option.value for option in active if option.key == "model" and option.value]
    if named:
        modality = folder_modality(pipeline_folder(named[-1]))
        if not modality.runs(command):
            raise UserError(
                f"{named[-1]} is a model of {modality.many}, but acdit {command} needs one of "
                f"{in_words((each.many for each in modalities_of(command)), 'or')}"
            )
    else:
        counts = {
            name: (
                sum(name in users(each) for each in active),
                sum(is_claimed(each, cls) for each in active),
            )
            for name, cls in classes.items()
        }
        modality = MODALITIES[max(counts, key=lambda name: counts[name])]  # the first in a tie
    foreign = [option for option in active if users(option) and modality.name not in users(option)]
    if foreign:
        alike = [option for option in foreign if users(option) == users(foreign[0])]
        shown = (f"--out {each.value}" if each.key == "out" else f"--{spelled(each.key)}" for each in alike)
        others = in_words((MODALITIES[name].many for name in users(alike[0])), "and")
        raise UserError(
            f"{', '.join(shown)}: only for models of {others}, but this is a model of {modality.many}"
        )
    every = dict.fromkeys(key for keys in known.values() for key in keys)
    for option in given:
        if option.key not in every:
            value = "" if option.value is None else f" (value {option.value!r})"
            close = spelled(nearest(option.key, every)[0])
            raise UserError(f"unknown option --{spelled(option.key)}{value}; did you mean --{close}?")
    off = {
        option.words
        for option in given
        if option.value in off_values[option] and option.key not in known[modality.name]
    }
    return modality, _without(argv, off)


def _suffixes_of(path: Path) -> set[str]:
    """Return the suffix of a file, or those of the visible files of a folder; an empty one for no files."""
    files = [path]
    if os.path.isdir(path):  # also for names that no file can have
        files = [child for child in path.iterdir() if child.is_file() and not child.name.startswith(".")]
    return {file.suffix.lower() for file in files} or {""}


def _given(argv: Sequence[str]) -> list[Given]:
    """Return the options among the arguments."""
    options = []
    for index, word in enumerate(argv):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            key, following = name.replace("-", "_"), argv[index + 1 : index + 2]
            if equals:
                options.append(Given(key, value, (word,)))
            elif following and not following[0].startswith("--"):
                options.append(Given(key, following[0], (word, *following)))
            else:
                options.append(Given(key, None, (word,)))
    return options


def _without(argv: Sequence[str], options: set[tuple[str, ...]]) -> list[str]:
    """Return the arguments without the given options."""
    kept, rest = [], list(argv)
    while rest:
        option = next((words for words in options if tuple(rest[: len(words)]) == words), ())
        if not option:
            kept.append(rest[0])
        del rest[: len(option) or 1]
    return kept
