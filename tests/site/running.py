"""Run the blocks of a page of the documentation, one after the other."""

from collections.abc import Callable, Set
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

from acdit.cli.main import main
from tests.site.pages import ROOT
from tests.site.snippets import SETTING_UP, Block, blocks_of


@dataclass(frozen=True)
class Ran:
    """A command, or a block of Python, that was run.

    Attributes:
        block: the block.
        words: the command without `acdit`; empty for Python.
        code: exit code of the command; 0 for Python.
        out: what was printed.
        names: the names that the Python blocks of the page had defined by then.
    """

    block: Block
    words: tuple[str, ...]
    code: int
    out: str
    names: dict[str, Any]


def few_steps(words: list[str]) -> int:
    """Run a command; if it samples, with one step for each block, one picture, or few tokens."""
    shorter = list(words)
    if words[0] == "sample" and "--prompt" in words and "--max-new-tokens" not in words:
        shorter += ["--max-new-tokens", "32"]
    if words[0] == "sample" and "--fast" in words and "--samples" not in words:
        shorter += ["--samples", "1"]
    if words[0] == "sample" and not {"--prompt", "--fast"} & set(words):
        if "--steps" not in words:
            shorter += ["--steps", ""]
        shorter[shorter.index("--steps") + 1] = "1"
    return main(shorter)


def run_page(
    name: str,
    run: Callable[[list[str]], int] = main,
    names: dict[str, Any] | None = None,
    text: Callable[[str], str] = str,
    also: Set[str] = frozenset(),
) -> list[Ran]:
    """Run every block of a page that is not marked, and of one with a mark for some commands the others.

    Args:
        name: path of the page.
        run: called with the words of each command in place of `acdit`; returns the exit code.
        names: names that the Python blocks, which share them, find defined.
        text: called with the text of a Python block; returns the one to run.
        also: reasons of marks that do not count here.
    """
    shared: dict[str, Any] = {"__name__": "page"} if names is None else names
    done: list[Ran] = []
    for block in blocks_of(ROOT / name):
        skipped = () if block.reasons <= also else block.skipped
        if block.reasons - also and not skipped:
            continue
        if block.language == "python":
            with redirect_stdout(StringIO()) as out:
                exec(compile(text(block.text), name, "exec"), shared)
            done.append(Ran(block, (), 0, out.getvalue(), dict(shared)))
        for words in block.lines:
            if " ".join(words).startswith(SETTING_UP) or words[1] in skipped:
                continue
            assert words[0] == "acdit", f"{name}: {words[0]} is not run"
            with redirect_stdout(StringIO()) as out:
                code = run(words[1:])
            done.append(Ran(block, tuple(words[1:]), code, out.getvalue(), dict(shared)))
    return done
