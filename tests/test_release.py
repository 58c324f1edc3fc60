"""What a release consists of: its version, its metadata, and builds that are the same bytes everywhere."""

import email
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

import acdit

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOOL = PROJECT["tool"]["hatch"]
FALLBACK = Version(TOOL["version"]["fallback-version"])
AUTHOR = ["-c", "user.name=acdit", "-c", "user.email=acdit@example.org", "-c", "commit.gpgsign=false"]


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *AUTHOR, *words], cwd=folder, check=True, capture_output=True)


def copied(folder: Path) -> Path:
    """Copy what an sdist is made of, without the history, into a new folder."""
    names = [*TOOL["build"]["targets"]["sdist"]["include"], "pyproject.toml", "LICENSE", ".gitignore"]
    folder.mkdir()
    for name in names:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (ROOT / name).exists():
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def committed(folder: Path) -> Path:
    """Make a git repository of a folder, with one commit."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    return folder


def version_of(folder: Path) -> Version:
    """Return the version that a build in a folder would have."""
    command = [sys.executable, "-m", "hatchling", "version"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return Version(done.stdout.strip())


def built(folder: Path, **environment: str) -> dict[str, Path]:
    """Build as `make dist` does; return the files by their names."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"]
    variables = {key: value for key, value in os.environ.items() if key != "SOURCE_DATE_EPOCH"}
    subprocess.run(command, cwd=folder, env=variables | environment, check=True, capture_output=True)
    return {path.name: path for path in sorted((folder / "dist").iterdir())}


def test_sources_that_are_not_installed_have_a_version_too(tmp_path):
    shutil.copyfile(acdit.__file__, tmp_path / "acdit.py")
    program = "import acdit; print(acdit.__version__, 'importlib.metadata' in __import__('sys').modules)"
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, '.'); {program}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "0+unknown True\n"


def test_the_citation_names_the_version_to_come():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert FALLBACK.is_devrelease and citation["version"] == FALLBACK.base_version
    assert citation["license"] == PROJECT["project"]["license"].split(" AND ")[0]  # of the code
    assert [author["name"] for author in PROJECT["project"]["authors"]] == [
        author["name"] for author in citation["authors"]
    ]


def test_builds_are_of_pinned_versions():
    """`make dist` builds without isolation: what builds is what constraints.txt pins."""
    pins = (ROOT / "constraints.txt").read_text()
    for requirement in PROJECT["build-system"]["requires"]:
        name = requirement.partition(">=")[0]
        assert f"\n{name}==" in pins


@pytest.mark.long
def test_the_version_comes_from_the_last_tag(tmp_path):
    sources = copied(tmp_path / "sources")
    assert version_of(sources) == FALLBACK  # no git
    committed(sources)
    untagged = version_of(sources)
    assert (untagged.base_version, untagged.dev) == (FALLBACK.base_version, 1)
    git(sources, "tag", "v3.1.4")
    assert version_of(sources) == Version("3.1.4")
    git(sources, "commit", "--quiet", "--allow-empty", "--message", "later")
    later = version_of(sources)
    assert later.is_devrelease and Version("3.1.4") < later < Version("3.2") and later.local is None
    git(sources, "tag", "--annotate", "v3.2.0", "--message", "with a message, as a release has")
    assert version_of(sources) == Version("3.2.0")
    git(sources, "commit", "--quiet", "--allow-empty", "--message", "later still")
    # as a hosted runner fetches it: the last commit alone, without tags
    git(tmp_path, "clone", "--quiet", "--depth", "1", "--no-tags", f"file://{sources}", "shallow")
    shallow = version_of(tmp_path / "shallow")
    assert (shallow.base_version, shallow.dev) == (FALLBACK.base_version, 1)


@pytest.mark.long
def test_two_builds_are_the_same_bytes(tmp_path):
    """In another folder, at another time, with other permissions; and the sdist builds without git."""
    first = committed(copied(tmp_path / "first"))
    git(first, "tag", "v3.1.4")
    git(tmp_path, "clone", "--quiet", str(first), "another name")
    second = tmp_path / "another name"
    for path in second.rglob("*.py"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o600)
    git(second, "config", "core.fileMode", "false")
    epoch = {"SOURCE_DATE_EPOCH": "1700000000"}
    files = built(first, **epoch)
    assert list(files) == ["acdit-3.1.4-py3-none-any.whl", "acdit-3.1.4.tar.gz"]
    others = built(second, **epoch, TZ="Asia/Tokyo", LC_ALL="C", PYTHONHASHSEED="1")
    digests = [
        {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in each.items()}
        for each in (files, others)
    ]
    assert digests[0] == digests[1]
    with tarfile.open(files["acdit-3.1.4.tar.gz"]) as archive:
        assert {member.mtime for member in archive.getmembers()} == {1_700_000_000}
        archive.extractall(tmp_path, filter="data")
    again = built(tmp_path / "acdit-3.1.4", **epoch)
    wheel = files["acdit-3.1.4-py3-none-any.whl"]
    assert again[wheel.name].read_bytes() == wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read("acdit-3.1.4.dist-info/METADATA"))
    assert metadata["Version"] == "3.1.4"
    assert metadata["License-Expression"] == PROJECT["project"]["license"]
    assert metadata["Author"] == "The acdit contributors" and metadata.get_all("Classifier")
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]


@pytest.mark.long
def test_the_wheel_of_the_sdist_is_that_of_the_checkout(tmp_path):
    """And holds every file of the page in the browser."""
    sources = committed(copied(tmp_path / "sources"))
    files = built(sources, SOURCE_DATE_EPOCH="1700000000")
    (of_sdist,) = (path for name, path in files.items() if name.endswith(".whl"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", "direct"]
    variables = os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(command, cwd=sources, env=variables, check=True, capture_output=True)
    assert (sources / "direct" / of_sdist.name).read_bytes() == of_sdist.read_bytes()
    with zipfile.ZipFile(of_sdist) as archive:
        names = set(archive.namelist())
    static = {path.relative_to(ROOT).as_posix() for path in (ROOT / "acdit/playground/static").iterdir()}
    assert "acdit/playground/static/index.html" in static and len(static) > 10
    assert static - names == set()
