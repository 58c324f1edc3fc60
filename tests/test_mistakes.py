"""Planted mistakes stay plantable: what they change is in the package, and so are the tests they name."""

from pathlib import Path

import acdit
from tests.mistakes import MUTANTS

PACKAGE, TESTS = Path(acdit.__file__).parent, Path(__file__).parent


def test_every_mistake_has_its_place_and_its_tests():
    for mistake in MUTANTS:
        source = (PACKAGE / mistake.file).read_text()
        assert mistake.planted(source) != source
        for test in mistake.tests.split():
            file, _, name = test.partition("::")
            function = f"def {name.split('[')[0]}("
            assert not name or function in (TESTS / file).read_text(), f"{mistake.name}: no {test}"
