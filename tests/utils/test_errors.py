import pytest

from acdit.utils.errors import UserError, require


def test_a_missing_package_gives_the_line_that_installs_it():
    with pytest.raises(UserError, match=r"no_such_package is not installed: pip install 'acdit\[eval\]'"):
        require("no_such_package.part", "eval")


def test_an_installed_module_is_returned():
    import json.decoder

    assert require("json.decoder", "eval") is json.decoder
