"""The workflows, which run elsewhere: steps of that of a release are run here, in folders of their own."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"


def workflow(name: str) -> dict[Any, Any]:
    return yaml.safe_load((FOLDER / name).read_text())


def run_step(words: str, folder: Path, **environment: str) -> int:
    """Run the step of release.yml that has these words as a hosted runner does; return its exit status."""
    (step,) = [
        step["run"]
        for step in workflow("release.yml")["jobs"]["release"]["steps"]
        if words in step.get("run", "")
    ]
    variables = {"PATH": "/usr/local/bin:/usr/bin:/bin"} | environment
    return subprocess.run(["bash", "-e", "-c", step], cwd=folder, env=variables).returncode


def test_the_checksums_are_of_files_as_they_are_downloaded(tmp_path):
    (tmp_path / "dist").mkdir()
    for name in ("acdit-1.whl", "acdit-1.tar.gz"):
        (tmp_path / "dist" / name).write_text(name)
    assert run_step("sha256sum", tmp_path) == 0
    shutil.copy(tmp_path / "SHA256SUMS", tmp_path / "dist")
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(check, cwd=tmp_path / "dist", capture_output=True, text=True, check=True)
    assert done.stdout == "acdit-1.tar.gz: OK\nacdit-1.whl: OK\n"


@pytest.mark.parametrize("change", ["", ".1", "rc1"])
def test_a_tag_must_be_the_version_of_the_citation(change):
    version = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    status = run_step("CITATION.cff", ROOT, GITHUB_REF_NAME=f"v{version}{change}")
    assert status == (1 if change else 0)


def test_a_tag_starts_the_release_alone():
    triggers = {
        name: workflow(name)[True]["push"] for name in ("test.yml", "release.yml")
    }  # YAML's `on` is true
    assert triggers == {"test.yml": {"branches": ["**"]}, "release.yml": {"tags": ["v*"]}}
