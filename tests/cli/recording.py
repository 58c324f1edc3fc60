"""Run commands up to the point where their options are complete."""

from dataclasses import replace

from acdit.cli.command import ModalityCommand, PlainCommand, RecipeCommand
from acdit.cli.main import load_command
from acdit.cli.study import StudyCommand


def record(monkeypatch, name, function):
    """Have a command give its options to a function in place of what it does."""
    command = load_command(name)
    if isinstance(command, ModalityCommand):
        command = replace(command, run=lambda import_string, options: function(options))
    elif isinstance(command, StudyCommand):
        command = replace(command, run=lambda study, options: function(options))
    else:
        assert isinstance(command, PlainCommand | RecipeCommand)
        command = replace(command, run=function)
    monkeypatch.setattr(f"acdit.cli.{name}.COMMAND", command)
