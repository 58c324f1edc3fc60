"""The fenced blocks of README, docs/ and the model cards, and the marks of those that are not run.

Before a block stands `<!-- not run: REASONS -->`, or `<!-- not run: REASONS (words) -->` for those of its
commands that begin with one of the words; `<!-- prints -->` stands before one whose output is the next block.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.site.pages import PAGES

REASONS = {"GPU", "download", "minutes", "several machines", "your files", "sketch"}
BLOCK = re.compile(r"(?:^<!-- (.*?) -->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# Lines that set up what the tests run in already.
SETTING_UP = ("pip install ",)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, language and text, and why it is not run, in whole or for some commands."""

    page: Path
    mark: str
    language: str
    text: str

    @property
    def reasons(self) -> frozenset[str]:
        """Why it is not run, empty if it is."""
        match = re.fullmatch(r"not run: ([\w ,]+?)(?: \([\w, ]+\))?", self.mark)
        return frozenset(match[1].split(", ")) if match else frozenset()

    @property
    def skipped(self) -> tuple[str, ...]:
        """The commands that are not run, if not all."""
        match = re.fullmatch(r"not run: [\w ,]+? \(([\w, ]+)\)", self.mark)
        return tuple(match[1].split(", ")) if match else ()

    @property
    def prints(self) -> bool:
        """Whether the next block is what it prints."""
        return self.mark == "prints"

    @property
    def lines(self) -> list[list[str]]:
        """The lines of a shell block as words, without comments."""
        if self.language != "sh":
            return []
        lines = [shlex.split(line, comments=True) for line in self.text.splitlines()]
        return [words for words in lines if words]

    @property
    def commands(self) -> list[list[str]]:
        """The `acdit` commands among them, also those that torchrun starts, without the first word."""
        found = []
        for words in self.lines:
            if words[0] == "torchrun":
                words = words[words.index("-m") + 1 :]
            if words[0] == "acdit":
                found.append(words[1:])
        return found


BLOCKS = [
    Block(page, *(part or "" for part in parts))
    for page in PAGES
    for parts in BLOCK.findall(page.read_text())
]


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page in order."""
    return [block for block in BLOCKS if block.page == page]
