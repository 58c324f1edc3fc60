"""The random command lines that the fuzz tests run."""

import json
import random

from acdit.cli.main import COMMANDS
from tests.fuzz_words import BOUNDS, UNBOUNDED, words_of


def test_the_cases_are_the_same_every_time():
    """A printed seed repeats a case."""
    made = [words_of(random.Random(f"0 words {case}")) for case in range(50)]
    assert made == [words_of(random.Random(f"0 words {case}")) for case in range(50)]
    assert len({json.dumps(words) for words in made}) > 40


def test_every_command_is_bounded_or_ends_by_itself():
    """A command that is new here must not serve or train without end."""
    assert set(BOUNDS).isdisjoint(UNBOUNDED) and {*BOUNDS, *UNBOUNDED} == set(COMMANDS)
