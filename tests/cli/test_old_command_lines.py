"""Command lines of an earlier version keep their meaning.

`command_lines.json` holds the command lines of README, documentation and tests of commit 972c7b4, with the
exit code and the options that its parser gave them (without those that are unset).
"""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from acdit.cli.main import COMMANDS, main
from acdit.pipelines.folders import SHIPPED
from acdit.training.config import Recipe
from tests.cli.recording import record

LINES = json.loads((Path(__file__).parents[1] / "fixtures" / "command_lines.json").read_text())
# The parser let these pass, and the command refused them with the same exit code.
REFUSED_LATER = [
    ["sample", "--model", "mnist", "--prompt", "x", "--top-p", "0.5"],
    ["evaluate", "--model", "mnist", "--times"],
    ["evaluate", "--model", "mnist", "--frames", "8"],
]
TEXT_DEFAULTS = (("draws", 4), ("estimate", "times"))
NEWER = (
    "classifier.",
    "optimizer.layer_decay",
    "model.context",
    "model.kind",
    "model.positions",
)  # keys that the earlier version did not have
NEWER_DEFAULTS = {"info": {"dtype": "float32"}}  # of options that the earlier version did not have
UNSET = (None, False, [], "")


def flat(options: Any, prefix: str = "") -> dict[str, Any]:
    """The values of options by dotted key, as JSON has them."""
    values: dict[str, Any] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        nested = is_dataclass(value)
        values |= flat(value, f"{prefix}{field.name}.") if nested else {prefix + field.name: value}
    return json.loads(json.dumps(values))


@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(line["argv"]))
def test_a_command_line_keeps_its_meaning(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for model in ("runs/m", "models/xl"):
        (tmp_path / model).mkdir(parents=True)
        (tmp_path / model / "pipeline").symlink_to(SHIPPED / "mnist")
    called: list[tuple[str, Any]] = []
    for name in COMMANDS:
        record(monkeypatch, name, lambda options, name=name: called.append((name, options)))
    code = main(line["argv"])
    said = capsys.readouterr()
    if line["argv"] in REFUSED_LATER:
        assert code == 2 and not called
        return
    assert code == line["code"], said.err
    if "command" not in line:
        assert not called and bool(said.err) == (code == 2)
        return
    ((command, options),) = called
    assert command == line["command"]
    old = line["options"]
    if command in ("sample", "evaluate"):  # a model that is not named used to be chosen later
        old = {"model": "shakespeare" if "prompt" in old else "mnist"} | old
    if old.get("model") != "shakespeare":  # defaults that only models of text read
        old = {key: value for key, value in old.items() if (key, value) not in TEXT_DEFAULTS}
    new = flat(options)
    if command == "study":  # each study has its own options now, and some new ones
        old = {key: value for key, value in old.items() if key in new}
        new = {key: value for key, value in new.items() if key in old}
    if "labels" in old:  # numbers stay texts until the model's class names are known
        old["labels"] = list(map(str, old["labels"]))
    newer = {key: value for key, value in new.items() if key.startswith(NEWER)}
    assert newer.items() <= flat(Recipe()).items()  # those are the defaults
    new = {key: value for key, value in new.items() if key not in newer and value not in UNSET}
    assert new == old | NEWER_DEFAULTS.get(command, {})
