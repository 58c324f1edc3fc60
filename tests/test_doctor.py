"""`acdit doctor`: what it reports, and that it finds a library that computes wrongly."""

import json

from acdit import attention
from acdit.cli import main


def test_a_sound_machine(capsys):
    assert main(["doctor", "--json", "--device", "cpu"]) == 0
    findings = {finding["subject"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert {name for name, finding in findings.items() if finding["state"] == "right"} == {
        "attention dense",
        "attention split",
        "attention flex",
        "cached sampling",
    }
    assert findings["device"]["text"].startswith("cpu")
    assert findings["attention"]["text"].startswith("split")
    assert findings["extra eval"]["state"] == "has"


def test_wrong_arithmetic_is_found(monkeypatch, capsys):
    right = attention.flex_attention
    monkeypatch.setattr(attention, "flex_attention", lambda *args, **kwargs: 1.05 * right(*args, **kwargs))
    assert main(["doctor", "--device", "cpu"]) == 2
    printed = capsys.readouterr()
    failed = [line for line in printed.out.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1 and "attention flex" in failed[0]
    assert len(printed.err.strip().splitlines()) == 1 and "attention flex" in printed.err


def test_a_device_that_is_not_there(capsys):
    assert main(["doctor", "--device", "cuda:77"]) == 2
    assert "--device cuda:77 cannot be used" in capsys.readouterr().err
