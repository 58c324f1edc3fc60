"""What every study refuses in one line."""

import sys

import pytest

from acdit.cli.main import main
from acdit.cli.study import options_of
from acdit.studies.study import STUDIES
from acdit.utils.files import only_process

NAMES = sorted(STUDIES)
PLOTTED = [name for name in NAMES if name not in ("intervals", "understanding-settings")]


def quick(name: str) -> list[str]:
    """The command of a study that takes least."""
    budget = ["--budget", "quick"] if hasattr(options_of(STUDIES[name]), "budget") else []
    return ["study", name, *budget, "--out", "out"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACDIT_RUNS", str(tmp_path / "runs"))


def refused(words: list[str], capsys) -> str:
    assert main(words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_in_use(name, tmp_path, capsys):
    with only_process(tmp_path / "out", "a study"):
        assert "out is in use by another process" in refused(quick(name), capsys)


@pytest.mark.long
@pytest.mark.parametrize("name", PLOTTED)
def test_a_missing_extra(name, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'acdit[examples]'" in refused(quick(name), capsys)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_budget_and_an_unknown_option(name, tmp_path, capsys):
    assert "budget" in refused(["study", name, "--budget", "huge"], capsys)
    assert "--reffresh" in refused(["study", name, "--reffresh"], capsys)
    assert not list(tmp_path.iterdir())


def test_an_unknown_study(capsys):
    err = refused(["study", "scalling"], capsys)
    assert "unknown study 'scalling'; did you mean" in err and "report writes the page" in err
    assert "did you mean report" in refused(["study", "reprot"], capsys)
