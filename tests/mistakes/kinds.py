"""What a planted mistake is."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """A mistake in a file of the package: texts that occur once there, and what takes their place."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: str  # separated by blanks, in tests/


def mutant(name: str, file: str, old: str, new: str, tests: str) -> Mutant:
    return Mutant(name, file, ((old, new),), tests)
