"""What a planted mistake is."""

import re
from typing import NamedTuple


class Mutant(NamedTuple):
    """A mistake in a file of the package: texts that occur once there, and what takes their place."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: str  # separated by blanks, in tests/

    def planted(self, source: str) -> str:
        """The file's text with the mistake in it; how lines are broken does not matter.

        Raises:
            ValueError: if a text is not found exactly once.
        """
        for old, new in self.edits:
            pattern = r"\s+".join(re.escape(word) for word in old.split())
            found = len(re.findall(pattern, source))
            if found != 1:
                raise ValueError(f"{self.file} has {found} times, not once: {old}")
            source = re.sub(pattern, lambda _, new=new: new, source)
        return source


def mutant(name: str, file: str, old: str, new: str, tests: str) -> Mutant:
    return Mutant(name, file, ((old, new),), tests)
