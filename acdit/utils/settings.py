"""Fill dataclasses from files, command lines and keywords; errors name the key and the closest valid one.

A value is addressed by its dotted key, such as `training.steps`. Text in a file and on the command line is
parsed in the same way, by the type that the dataclass declares. This module does not import torch.
"""

import argparse
import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, lru_cache
from textwrap import shorten
from types import MappingProxyType, NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import UserError
from .untrusted import shown

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

T = TypeVar("T")
LONGEST_SHOWN = 200  # characters of a value in a message
LITERAL = MappingProxyType({"literal": True})  # metadata of a dataclass field, see `Field.literal`
WORDS = MappingProxyType({"words": True})  # metadata of a dataclass field, see `Field.words`
QUOTED = re.compile(r'\s*"((?:[^"]|"")*)"\s*(?:,|$)')


@dataclass(frozen=True)
class Field:
    """Field of a dataclass, or of a dataclass nested in it."""

    hint: Any
    default: Any
    help: str
    literal: bool = False
    """If true, every text is a value as it is: `null` and `false` are texts like any other."""
    words: bool = False
    """If true, all arguments up to the next option are values, each as it is, with its commas."""

    @property
    def alternatives(self) -> tuple[Any, ...]:
        """Return the types of a union, or the single type of the value."""
        united = get_origin(self.hint) in (UnionType, Union)  # `Literal[..] | None` is a Union
        return get_args(self.hint) if united else (self.hint,)

    @property
    def is_sequence(self) -> bool:
        """Return whether the value may be a list or a tuple."""
        return any(get_origin(hint) in (list, tuple) for hint in self.alternatives)

    @property
    def described(self) -> str:
        """Return a description of the valid values."""
        return _describe(self.hint)

    def metavar(self, name: str) -> str:
        """Return the placeholder for an option's value in the help."""
        choices = [get_args(hint) for hint in self.alternatives if get_origin(hint) is Literal]
        if choices:
            return "{" + ",".join(map(str, choices[0])) + "}"
        if self.hint is bool:
            return "[true|false]"
        return name.upper() + (" .." if self.words else ",.." if self.is_sequence else "")

    def parse(self, value: object) -> object:
        """Parse a value: `null` and empty text mean None; text for a sequence is split, see `split_values`.

        For a literal field only empty text means None.

        Raises:
            UserError: if the quotes of a sequence are not complete.
        """
        if value == "" or (value == "null" and not self.literal):
            return None
        if isinstance(value, str) and self.is_sequence and ("," in value or int not in self.alternatives):
            return split_values(value)
        return list(value) if isinstance(value, list | tuple) else value


def split_values(text: str) -> list[str]:
    """Split text at its commas, as one line of CSV, with or without brackets around it.

    Blanks around a value and empty values are left out. A value in double quotes is taken exactly, with its
    commas, brackets and blanks; a double quote inside the quotes is written twice.

    Raises:
        UserError: if a value starts with a double quote but does not end with one.
    """
    rest, values = _without_brackets(text), []
    while rest:
        match = QUOTED.match(rest)
        if match is not None:
            values.append(match[1].replace('""', '"'))
            rest = rest[match.end() :]
            continue
        value, _, rest = rest.partition(",")
        if value.strip().startswith('"'):
            raise UserError(
                f'the quotes in {text!r} are not complete: write a value with commas as "a,b", and a double '
                "double quote inside the quotes twice"
            )
        if value.strip():
            values.append(value.strip())
    return values


def _without_brackets(text: str) -> str:
    """Return the text of a list without the brackets around it, if it has some."""
    stripped = text.strip()
    return stripped[1:-1] if stripped.startswith("[") and stripped.endswith("]") else text


def quoted_value(value: str) -> str:
    """Return a value as `split_values` reads it: in double quotes if it cannot stand without them."""
    plain = value and value == value.strip() and not set(value) & set(',"[]')
    return value if plain else '"' + value.replace('"', '""') + '"'


@cache
def fields_of(cls: type) -> Mapping[str, Field]:
    """Return every field of a dataclass, and of dataclasses nested in it, by its dotted key, in order."""
    return MappingProxyType(_fields(cls, ""))


def _fields(cls: type, prefix: str) -> dict[str, Field]:
    import docstring_parser

    hints = get_type_hints(cls)
    docs = {
        entry.arg_name: " ".join((entry.description or "").split())
        for base in cls.__mro__[:-1]
        for entry in docstring_parser.parse_from_object(base).params
    }
    by_key: dict[str, Field] = {}
    for field in fields(cls):
        key, hint = prefix + field.name, hints[field.name]
        if is_dataclass(hint):
            by_key |= _fields(hint, key + ".")  # pyright: ignore[reportArgumentType]
        else:
            default = field.default if field.default_factory is MISSING else field.default_factory()
            literal, words = field.metadata == LITERAL, field.metadata == WORDS
            by_key[key] = Field(hint, default, docs.get(field.name, ""), literal, words)
    return by_key


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings: {"training": {"steps": 5}} becomes {"training.steps": 5}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Describe the differences between two settings by dotted key; either may have been stored as JSON."""
    before, after = flatten(old), flatten(new)
    descriptions = {}
    for key in [*after, *(key for key in before if key not in after)]:
        was, now = (json.dumps(values.get(key)) for values in (before, after))  # JSON has no tuples
        if was != now:
            shortened = (shorten(text, 60, placeholder=" ...") for text in (was, now))
            descriptions[key] = "{} was {} and is {}".format(key, *shortened)
    return descriptions


def nearest(word: str, candidates: Iterable[str]) -> list[str]:
    """Sort candidates by their similarity to `word`, the most similar first.

    Whole names are compared, and the parts after the last dot.
    """

    def similarity(candidate: str) -> float:
        pairs = ((word, candidate), (word.rpartition(".")[2], candidate.rpartition(".")[2]))
        whole, end = (difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)
        return max(whole, end) + whole / 100

    return sorted(candidates, key=similarity, reverse=True)


def read_arguments(cls: type, argv: list[str], positional: str | None = None) -> dict[str, Any]:
    """Parse command line arguments into values by dotted key.

    Options are written `--key value`, `--key=value` or, for a boolean, `--key` alone. Dashes and underscores
    are equivalent in a key, and the option of a sequence may be given several times. An option of words takes
    all arguments up to the next option. One argument without a key is the value of `positional`; if that is a
    sequence, there may be several such arguments.
    """
    known = fields_of(cls)
    values: dict[str, Any] = {}
    remaining = list(argv)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--"):
            earlier = None if positional is None else values.get(positional)
            if positional is None or not isinstance(earlier, list | None):
                raise UserError(f"unexpected argument {word!r}; options are written --key value")
            values[positional] = [*(earlier or ()), word] if known[positional].is_sequence else word
            continue
        name, equals, value = word.partition("=")
        if not equals:
            value = remaining.pop(0) if remaining and not remaining[0].startswith("--") else None
        key = name[2:].replace("-", "_")
        if key not in known:
            note = "" if value is None else f" (value {value!r})"
            section = [candidate for candidate in known if candidate.startswith(f"{key}.")]
            close = spelled(nearest(key, section or known)[0])
            raise UserError(f"unknown option {name}{note}; did you mean --{close}?")
        if value is None and known[key].hint is not bool:
            raise UserError(f"{name} must be given a value: {known[key].described}")
        value = "true" if value is None else value
        if known[key].words:
            values[key] = [*values.get(key, ()), value, *_pop_words(remaining)]
            continue
        earlier = values.get(key)
        if isinstance(earlier, list):
            value = [*earlier, value]
        elif known[key].is_sequence and earlier is not None:
            value = f"{_without_brackets(earlier)},{_without_brackets(value)}"
        values[key] = value
    return values


def _pop_words(arguments: list[str]) -> list[str]:
    """Remove the arguments before the next option, and return them."""
    words: list[str] = []
    while arguments and not arguments[0].startswith("--"):
        words.append(arguments.pop(0))
    return words


def build(cls: type[T], values: Mapping[str, Any], source: str = "") -> T:
    """Build an instance of `cls` from values by dotted key; errors name `source` as their origin."""
    prefix = f"{source}: " if source else ""
    known = fields_of(cls)
    parsed: dict[str, Any] = {}
    literal: dict[str, Any] = {}  # jsonargparse would read the texts null and 007 as values of other types
    for key, value in values.items():
        if key not in known:
            section = ", ".join(name for name in known if name.startswith(f"{key}."))
            if section and value in (None, ""):
                continue
            advice = f"write one of {section}" if section else f"did you mean {nearest(key, known)[0]}?"
            raise UserError(f"{prefix}unknown key {key} (value {_brief(value)}); {advice}")
        parts = literal if known[key].literal else parsed
        parts[key] = known[key].parse(value)
        if parts[key] is None and NoneType not in known[key].alternatives:
            raise UserError(f"{prefix}{label_of(cls, key)} must be {known[key].described}, not empty")
    checked: dict[str, Any] = {}
    for key, value in parsed.items():
        try:
            # lists and mappings may change later, so only single values are remembered
            check = _remembered if isinstance(value, str | float | None) else _checked
            result = check(cls, key, value)
            checked[key] = list(result) if isinstance(result, list) else result
        except argparse.ArgumentError as error:
            if not str(error).startswith(f'Parser key "{key}"'):
                raise
            label = label_of(cls, key)
            raise UserError(
                f"{prefix}{label} must be {known[key].described}, not {_brief(values[key])}"
            ) from None
    return _instance(cls, checked | literal)


def _checked(cls: type, key: str, value: object) -> object:
    """Return a value of a field as its type."""
    return _checker(cls, key).parse_object({key: value})[key]


# The same texts come again and again, and the checks are slow.
_remembered = lru_cache(4096, typed=True)(_checked)


@cache
def _checker(cls: type, key: str) -> "ArgumentParser":
    """Return the parser that checks the values of a field; one of all fields would check all defaults too."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{key}", type=fields_of(cls)[key].hint)
    return parser


def _instance(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Build an instance of `cls` from values by dotted key; every field without a value has its default."""
    own: dict[str, Any] = {}
    for name, hint in _hints(cls).items():
        if is_dataclass(hint):
            own[name] = _instance(hint, values, f"{prefix}{name}.")  # pyright: ignore[reportArgumentType]
        elif prefix + name in values:
            own[name] = values[prefix + name]
    return cls(**own)


@cache
def _hints(cls: type) -> Mapping[str, Any]:
    """Return the type of each field of a dataclass by its name."""
    hints = get_type_hints(cls)
    return MappingProxyType({field.name: hints[field.name] for field in fields(cls)})  # pyright: ignore[reportArgumentType]


def spelled(key: str) -> str:
    """Return the spelling of a key as an option, such as keep-blocks.

    A dotted key is spelled as in files: training.batch_size.
    """
    return key if "." in key else key.replace("_", "-")


def label_of(cls: type, key: str) -> str:
    """Return the name of a field in messages, as the user types it.

    The attribute `section` of the class that declares the field is the prefix, such as "training.", or "--"
    for the options of a command.
    """
    owners = [base for base in cls.__mro__ if key in getattr(base, "__dataclass_fields__", ())]
    section = getattr(owners[-1], "section", "") if owners else ""  # a dotted key is a whole name
    return section + (spelled(key) if section == "--" else key)


def as_text(value: object) -> str:
    """Return a value as it is written on the command line."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _brief(value: Any) -> str:
    """Return a value in quotes, of which a message shows the beginning."""
    return shown(as_text(value), LONGEST_SHOWN)


def _describe(hint: Any) -> str:
    """Describe the values of a type in words."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if get_origin(hint) is tuple:
        return f"{len(arguments)} values joined by commas, each {_describe(arguments[0])}"
    if get_origin(hint) is list:
        return "values joined by commas, each " + _describe(arguments[0])
    if get_origin(hint) in (UnionType, Union):
        return " or ".join(_describe(alternative) for alternative in arguments if alternative is not NoneType)
    return words[hint]
