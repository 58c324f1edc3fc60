"""No value of any option or key ends in a traceback while it is read."""

import pytest

from acdit.cli.main import COMMANDS, load_command
from acdit.training.autoencoder_config import AutoencoderRecipe
from acdit.training.config import Recipe
from acdit.utils.errors import UserError
from acdit.utils.settings import build, fields_of

CLASSES = sorted(
    {cls for name in COMMANDS for cls in load_command(name).option_classes()} | {Recipe, AutoencoderRecipe},
    key=lambda cls: cls.__name__,
)
VALUES = ["x", "", "nan", "1e400", "-1", "0", "2,3", "9" * 40]


def keys(cls: type) -> list[str]:
    """The keys of a class; of a command that takes a recipe, its own alone."""
    inherited = fields_of(Recipe) if issubclass(cls, Recipe) and cls is not Recipe else {}
    return [key for key in fields_of(cls) if key not in inherited]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_value_is_read_or_refused_in_words(cls):
    assert keys(cls)
    for key in keys(cls):
        for value in VALUES:
            try:
                build(cls, {key: value})
            except UserError as refused:
                assert str(refused)
            except ValueError as refused:  # of a check such as that of block sizes
                assert type(refused) is ValueError and "must" in str(refused), (key, value)
