"""`acdit completion`: print a script that completes commands, options and their values in a shell."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, get_origin

from ..pipelines.folders import shipped_models
from ..studies.study import ENTRIES
from ..training.recipes import recipe_names
from ..utils.errors import UserError
from ..utils.settings import fields_of, spelled
from .command import Command, PlainCommand, RecipeCommand
from .study import StudyCommand

SHELLS = Literal["bash", "zsh", "tcsh"]
# Completion of names or files, which argparse cannot express.
FUNCTIONS = {
    "bash": "{name}() {{ compgen -W '{words}' -- $1; compgen -f -- $1; }}",
    "zsh": "{name}() {{ compadd {words}; _files }}",
}


@dataclass
class CompletionOptions:
    """Print a script that completes commands, options, values and files in a shell.

    To have it in every shell, add the line below to the file that the shell reads at its start, such as
    ~/.bashrc.
    """

    section: ClassVar[str] = "--"

    shell: SHELLS | None = None
    """Shell that the script is for."""

    def __post_init__(self) -> None:
        if self.shell is None:
            raise UserError("completion needs the shell: acdit completion bash, zsh or tcsh")


def run(options: CompletionOptions) -> None:
    """Print the script."""
    import shtab

    assert options.shell is not None  # checked by CompletionOptions
    parser, functions = completion_parser()
    preamble: Any = {shell: "\n".join(lines) for shell, lines in functions.items()}  # shtab's hint is str
    print(shtab.complete(parser, options.shell, preamble=preamble))


def completion_parser() -> tuple[argparse.ArgumentParser, dict[str, list[str]]]:
    """Return a parser of all commands for `shtab`, and the shell functions that complete names or files."""
    from .main import COMMANDS, load_command

    parser = argparse.ArgumentParser("acdit")
    commands = parser.add_subparsers()
    functions: dict[str, list[str]] = {shell: [] for shell in FUNCTIONS}
    for name in COMMANDS:
        command = load_command(name)
        _add_options(commands.add_parser(name, help=command.summary), command, functions)
    commands.add_parser("help", help="list options").add_argument("command", choices=list(COMMANDS))
    return parser, functions


def _add_options(parser: argparse.ArgumentParser, command: Command, functions: dict[str, list[str]]) -> None:
    """Add the options of a command in all modalities, and its argument without a key."""
    if isinstance(command, RecipeCommand):
        _complete_names_or_files(parser.add_argument("recipe"), recipe_names(command.kind), functions)
    if isinstance(command, StudyCommand):
        parser.add_argument("study", choices=list(ENTRIES))
    options = {key: field for cls in command.option_classes() for key, field in fields_of(cls).items()}
    for key, field in options.items():
        text = field.help.partition(";")[0].replace("%", "%%")
        if field.hint is bool:
            parser.add_argument(f"--{spelled(key)}", action="store_true", help=text)
            continue
        positional = isinstance(command, PlainCommand) and command.positional == key
        action = parser.add_argument(key if positional else f"--{spelled(key)}", help=text)
        literals = [hint for hint in field.alternatives if get_origin(hint) is Literal]
        if literals:
            action.choices = get_args(literals[0])
        else:
            _complete_names_or_files(action, shipped_models() if key == "model" else [], functions)


def _complete_names_or_files(
    action: argparse.Action, names: Sequence[str], functions: dict[str, list[str]]
) -> None:
    """Complete the values of an option from names and as files."""
    import shtab

    value: Any = action
    value.complete = dict(shtab.FILE)
    if names:
        for shell, template in FUNCTIONS.items():
            name = f"_acdit_names_{len(functions[shell])}"
            functions[shell].append(template.format(name=name, words=" ".join(names)))
            value.complete[shell] = name


COMMAND = PlainCommand(
    name="completion",
    summary="complete in a shell",
    arguments="SHELL",
    example='eval "$(acdit completion bash)"',
    options=CompletionOptions,
    positional="shell",
    run=run,
)
