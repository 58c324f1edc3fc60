"""Entry point of `acdit`: find the command in a table and run it. Imports torch only when a command runs."""

import os
import select
import sys
from collections.abc import Sequence
from typing import cast

from .. import __version__
from ..utils.errors import UserError, is_out_of_memory, line_of, raised_here
from ..utils.heap import keep_freed_memory
from ..utils.references import load_object
from ..utils.settings import nearest
from .command import Command

# Import strings of all commands by name, in the order of the help.
COMMANDS: dict[str, str] = {
    "train": "acdit.cli.train:COMMAND",
    "plan": "acdit.cli.plan:COMMAND",
    "autoencoder": "acdit.cli.autoencoder:COMMAND",
    "encode": "acdit.cli.encode:COMMAND",
    "tokenizer": "acdit.cli.tokenizer:COMMAND",
    "sample": "acdit.cli.sample:COMMAND",
    "classify": "acdit.cli.classify:COMMAND",
    "evaluate": "acdit.cli.evaluate:COMMAND",
    "reference": "acdit.cli.reference:COMMAND",
    "info": "acdit.cli.info:COMMAND",
    "curves": "acdit.cli.curves:COMMAND",
    "convert": "acdit.cli.convert:COMMAND",
    "bench": "acdit.cli.bench:COMMAND",
    "study": "acdit.cli.study:COMMAND",
    "doctor": "acdit.cli.doctor:COMMAND",
    "demo": "acdit.cli.demo:COMMAND",
    "completion": "acdit.cli.completion:COMMAND",
}
OVERVIEW = """usage: acdit COMMAND [--key value ...]

Train, sample and evaluate ACDiT models: images, video and text, generated block
by block.

commands:
{commands}

Without --model, a command takes a small model that comes with the package: of
MNIST digits, or of video or text if the options are for video or text.
`acdit help COMMAND` lists a command's options; `acdit --version` prints the
version.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments of `acdit`; None = those of the process.

    Returns:
        0 on success; 2 after a one-line message on stderr about an error that the user can fix; 130 after an
        interruption; 141 if the reader of the output has gone, as in `acdit help | head`. Bugs raise an
        exception.
    """
    keep_freed_memory()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: `acdit info >&-`
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # output that cannot be written is an error here, not when the process ends
    except KeyboardInterrupt:
        print("acdit: interrupted", file=sys.stderr)
        return 130
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"acdit: error: not enough memory: {line_of(error)}; use smaller batches", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        if not isinstance(error, UserError | OSError) and not raised_here(error):
            raise
        if _drop_output() and isinstance(error, BrokenPipeError):
            return 141
        print(f"acdit: error: {line_of(error)}", file=sys.stderr)
        return 2
    return 0


def _drop_output() -> bool:
    """Drop output that cannot be written, for a quiet end; return whether its reader has gone."""
    try:
        output = sys.stdout.fileno()
    except OSError:  # stdout has been replaced by an object in memory
        return False
    poll = select.poll()
    poll.register(output, select.POLLERR)
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


def load_command(name: str) -> Command:
    """Return a command of the table by name.

    Raises:
        UserError: if there is no command of that name; the message names the nearest one.
    """
    if name not in COMMANDS:
        close = nearest(name, COMMANDS)[0]
        raise UserError(f"unknown command {name!r}; did you mean {close}? `acdit --help` lists all")
    return cast(Command, load_object(COMMANDS[name]))


def _run(argv: list[str]) -> None:
    word, *rest = argv or ["--help"]
    if word == "help":
        word, rest = (rest[0], [*rest[1:], "--help"]) if rest else ("--help", [])
    if word in ("--help", "-h"):
        print(overview(), end="")
        return
    if word == "--version":
        print(__version__)
        return
    if word == "train" and "--dry-run" in rest:
        word, rest = "plan", [each for each in rest if each != "--dry-run"]
    command = load_command(word)
    if "--help" in rest or "-h" in rest:
        print(command.help([each for each in rest if each not in ("--help", "-h")]), end="")
    else:
        command.main(rest)


def overview() -> str:
    """Return the help of `acdit`: all commands, each with an example."""
    commands = [load_command(name) for name in COMMANDS]
    lines = [
        f"  {f'{command.name} {command.arguments}'.partition(' --')[0]:20}{command.summary:22}"
        f"{command.brief or command.example.splitlines()[0]}"
        for command in commands
    ]
    return OVERVIEW.format(commands="\n".join(lines))
