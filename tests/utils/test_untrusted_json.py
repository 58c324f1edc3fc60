"""JSON that repeats a key is refused, however many keys come before it."""

import pytest

from acdit.utils.errors import UserError
from acdit.utils.untrusted import parse_json


def test_a_key_that_is_repeated_after_many_others():
    """A search for each key among all of them would take hours."""
    keys = [f'"{index}":0' for index in range(500_000)]
    with pytest.raises(UserError, match="the key '499999' occurs twice"):
        parse_json("{" + ",".join([*keys, keys[-1]]) + "}", "the file")
    with pytest.raises(UserError, match="the key '7' occurs twice"):
        parse_json("{" + ",".join([*keys, keys[7], keys[9]]) + "}", "the file")
