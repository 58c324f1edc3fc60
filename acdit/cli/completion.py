"""`acdit completion`: print a script that completes commands and options in a shell."""

from dataclasses import dataclass
from typing import Literal, cast

from ..utils.errors import UserError
from ..utils.references import load_object
from ..utils.settings import fields_of, spelled
from .command import Command, PlainCommand

BASH = """# eval "$(acdit completion bash)", for example in ~/.bashrc
_acdit() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} words
  if [ "$COMP_CWORD" -eq 1 ]; then words="{commands} help"; else
    case ${{COMP_WORDS[1]}} in
{cases}
    esac
  fi
  case $word in
    --*) COMPREPLY=($(compgen -W "$words" -- "$word")) ;;
    *) if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "$words" -- "$word"))
       else COMPREPLY=($(compgen -W "$words" -- "$word") $(compgen -f -- "$word")); fi ;;
  esac
}}
complete -o filenames -F _acdit acdit
"""
ZSH = """# eval "$(acdit completion zsh)", after compinit, for example in ~/.zshrc
autoload -U +X bashcompinit && bashcompinit
"""


@dataclass
class CompletionOptions:
    """Print a script that completes commands, options and files in a shell; eval it when the shell starts."""

    shell: Literal["bash", "zsh"] | None = None
    """Shell that the script is for."""

    def __post_init__(self) -> None:
        if self.shell is None:
            raise UserError("completion needs the shell: acdit completion bash, or acdit completion zsh")


def run(options: CompletionOptions) -> None:
    """Print the script."""
    from .main import COMMANDS

    cases = []
    for name, reference in COMMANDS.items():
        command = cast(Command, load_object(reference))
        keys = dict.fromkeys(key for cls in command.option_classes() for key in fields_of(cls))
        cases.append(f'      {name}) words="{" ".join(f"--{spelled(key)}" for key in keys)} --help" ;;')
    cases.append(f'      help) words="{" ".join(COMMANDS)}" ;;')
    script = BASH.format(commands=" ".join(COMMANDS), cases="\n".join(cases))
    print((ZSH if options.shell == "zsh" else "") + script, end="")


COMMAND = PlainCommand(
    name="completion",
    summary="complete in a shell",
    arguments="SHELL",
    example='eval "$(acdit completion bash)"',
    options=CompletionOptions,
    positional="shell",
    run=run,
)
