"""Completion in a shell: the script that `acdit completion` prints, run by bash."""

import shutil
import subprocess

import pytest

from acdit.cli.main import COMMANDS, main
from acdit.pipelines.folders import shipped_models

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def completed(script: str, *words: str) -> list[str]:
    """What bash offers for the last of some words."""
    quoted = " ".join(f"'{word}'" for word in words)
    program = (
        f"{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _shtab_acdit; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert not [line for line in done.stderr.splitlines() if "compopt" not in line]  # it needs a live shell
    return done.stdout.split()


def test_commands_options_values_and_files_are_completed(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert completed(script, "acdit", "") == [*COMMANDS, "help"]
    assert completed(script, "acdit", "sam") == ["sample"]
    assert completed(script, "acdit", "help", "sa") == ["sample"]
    assert completed(script, "acdit", "train", "--training.bat") == ["--training.batch_size"]
    assert completed(script, "acdit", "sample", "--keep") == ["--keep-blocks", "--keep-frames"]
    assert completed(script, "acdit", "sample", "--dtype", "b") == ["bfloat16"]
    assert set(completed(script, "acdit", "sample", "--model", "")) >= {*shipped_models(), "mine.yaml"}
    assert {"mine.yaml", "mnist", "mnist-latent"} <= set(completed(script, "acdit", "train", "m"))
    assert completed(script, "acdit", "completion", "z") == ["zsh"]
    for shell in ("zsh", "tcsh"):
        assert main(["completion", shell]) == 0
        assert "--training.batch_size" in capsys.readouterr().out


def test_the_shell_must_be_named(capsys):
    assert main(["completion"]) == 2
    assert "completion needs the shell" in capsys.readouterr().err
    assert main(["completion", "fish"]) == 2
    assert "bash, zsh" in capsys.readouterr().err
