"""`acdit doctor`: what it reports, and that it finds a library that computes wrongly."""

import json
from importlib.metadata import PackageNotFoundError

from acdit import __version__
from acdit.bench import doctor
from acdit.cli.main import main
from acdit.model import attention


def test_a_sound_machine(capsys):
    assert main(["doctor", "--json", "--device", "cpu"]) == 0
    findings = {finding["subject"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert {name for name, finding in findings.items() if finding["state"] == "right"} == {
        "attention split",
        "attention flex",
        "cached sampling",
    }
    assert findings["device"]["text"].startswith("cpu")
    assert findings["attention"]["text"].startswith("split")
    assert findings["extra eval"]["state"] == "has"


def only_line(errors: str) -> str:
    """The only line besides those of progress, which a slow machine prints."""
    (line,) = (line for line in errors.splitlines() if not line.startswith("doctor:"))
    return line


def test_wrong_arithmetic_is_found(monkeypatch, capsys):
    right = attention.flex_attention
    monkeypatch.setattr(attention, "flex_attention", lambda *args, **kwargs: 1.001 * right(*args, **kwargs))
    assert main(["doctor", "--device", "cpu"]) == 2
    printed = capsys.readouterr()
    failed = [line for line in printed.out.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1 and "attention flex" in failed[0]
    assert "attention flex" in only_line(printed.err)


def test_what_breaks_is_a_finding_and_the_rest_is_told(monkeypatch, capsys):
    def disagreement(backend, device, backward):
        if backend == "flex":
            raise RuntimeError("no compiler\nand a long trace")
        return 0.0

    def version(name):
        if name == "acdit":
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(doctor, "disagreement", disagreement)
    monkeypatch.setattr(doctor, "version", version)  # as where acdit was not installed
    assert main(["doctor", "--json", "--device", "cpu"]) == 2
    printed = capsys.readouterr()
    findings = {finding["subject"]: finding for finding in json.loads(printed.out)}
    failed = {name: finding["text"] for name, finding in findings.items() if finding["state"] == "FAILED"}
    assert failed == {"attention flex": "RuntimeError: no compiler"}
    assert findings["packages"]["text"].startswith(f"acdit {__version__}, ")
    assert not any(name.startswith("extra ") for name in findings)
    assert findings["attention split"]["state"] == findings["cached sampling"]["state"] == "right"
    assert "attention flex" in only_line(printed.err)


def test_a_device_that_is_not_there(capsys):
    assert main(["doctor", "--device", "cuda:77"]) == 2
    assert "--device cuda:77 cannot be used" in capsys.readouterr().err
