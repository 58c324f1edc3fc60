from pathlib import Path

import pytest

from acdit.cli.main import main
from acdit.utils.errors import UserError, line_of, reason_of, require


def test_a_missing_package_gives_the_line_that_installs_it():
    with pytest.raises(UserError, match=r"no_such_package is not installed: pip install 'acdit\[eval\]'"):
        require("no_such_package.part", "eval")


def test_an_installed_module_is_returned():
    import json.decoder

    assert require("json.decoder", "eval") is json.decoder


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("two\nlines\tand  more"), "two lines and more"),
        (
            UserError("a \x1b[31mred\x1b[0m \x00 \ud800 \u202e é"),
            r"a \x1b[31mred\x1b[0m \x00 \ud800 \u202e é",
        ),
        (FileNotFoundError(2, "No such file", "a.png"), "a.png: No such file"),
        (OSError(18, "Cross-device link", "a", None, "b"), "a, b: Cross-device link"),
        (OSError("no errno"), "no errno"),
    ],
)
def test_a_message_is_one_line_that_a_terminal_can_show(error, line):
    assert line_of(error) == line


def test_reasons_of_the_operating_system_have_no_numbers():
    with pytest.raises(OSError) as raised:
        Path("no/such/file").read_bytes()
    assert reason_of(raised.value) == "no/such/file: No such file or directory"


def test_long_messages_keep_their_beginning_and_their_advice():
    line = line_of(UserError(f"{'9' * 5000} is too long; give another --out"))
    assert len(line) < 400 and line.startswith("999") and line.endswith("9 is too long; give another --out")
    line = line_of(UserError(f"changed: {'a was 1 and is 2, ' * 500}; remove it"))
    assert len(line) < 1500 and line.startswith("changed: a was 1") and line.endswith("is 2, ; remove it")


def test_the_command_line_shows_such_lines(capsys):
    """Names that the user gives, or that a file holds, may have any length and any characters."""
    assert main(["info", "--model", "9" * 5000]) == 2
    assert main(["info", "--model", "\x1b]0;title\x07"]) == 2
    errors = capsys.readouterr().err
    assert len(errors) < 1000 and "\x1b" not in errors and "Errno" not in errors
