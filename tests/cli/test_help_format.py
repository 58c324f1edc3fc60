"""Help texts fit the terminal: its width, whole names of options, paragraphs at the margin."""

import re

import pytest

from acdit.cli.main import COMMANDS, main

MODELS = ("mnist", "moving-digits", "shakespeare", "mnist-classifier")
CASES = [(name,) for name in COMMANDS] + [
    (name, "--model", model)
    for name in ("sample", "evaluate")
    for model in MODELS
    if (name, model) != ("sample", "mnist-classifier")
]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("words", [(), *CASES], ids=" ".join)
def test_help_fits_the_terminal(words, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out.partition("\nexample")[0]  # a command line is not wrapped
    lines = [line for line in text.splitlines() if not re.match(r"  --\S+ \S+$", line)]
    assert len(lines) > 5 and max(map(len, lines)) > 0.7 * min(columns, 100)
    assert [line for line in lines if len(line) > min(columns, 100)] == []
    assert [line for line in lines if re.search(r"\w-$", line)] == []  # no name is broken at a hyphen
    assert "(default: )" not in text


def test_paragraphs_of_a_description_begin_at_the_margin(capsys):
    assert main(["classify", "--help"]) == 0
    usage, first, second, options, *_ = capsys.readouterr().out.split("\n\n")
    assert usage.startswith("usage:") and first.startswith("Print the most probable classes")
    assert all(re.match(r"\S", line) for line in second.splitlines())
    assert "recognised" in second and options.startswith("options:")
