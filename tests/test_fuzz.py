"""Random damage to every kind of file that is read, and random command lines: exit 0 or 2, never a traceback.

What fails is printed so that it can be repeated: the seed with the number of the case, and the words. If the
process dies, the case is in the file CASE of pytest's temporary folder.
"""

import faulthandler
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest

from acdit.cli.main import main
from tests.fuzz_inputs import READINGS, check_whole, damaged, write_inputs
from tests.fuzz_words import words_of

pytestmark = pytest.mark.long
SEED = int(os.environ.get("FUZZ_SEED", "0"))
CASES = int(os.environ.get("FUZZ_CASES", "200"))
ONLY = os.environ.get("FUZZ_ONLY")  # number of the only case to run
LONGEST = 30  # seconds of a case
NUMBERS = range(CASES) if ONLY is None else range(int(ONLY), int(ONLY) + 1)


class Hang(BaseException):
    """A case that takes too long."""


@contextmanager
def limited(case: str, record: TextIO) -> Iterator[None]:
    """Raise Hang if a case takes more than `LONGEST` seconds; end the process if that does not stop it."""

    def stop(*_: object) -> None:
        raise Hang(f"{case} does not end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    faulthandler.dump_traceback_later(2 * LONGEST, exit=True, file=record)  # no signal ends a call of C
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempt(words: list[str], case: str, record: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Run `acdit` in the working directory.

    Fails, with the case, unless it exits with 0, or with one line and 2, and nothing temporary is left.
    """
    capsys.readouterr()
    try:
        with record.open("w", errors="backslashreplace") as file:
            print(f"{case}, words {words!r}", file=file, flush=True)
            with limited(case, file):
                code = main(words)
    except BaseException as error:
        raise AssertionError(f"{case}, words {words}: {type(error).__name__}: {error}") from error
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("acdit: error: ")]
    assert (code, len(errors)) in ((0, 0), (2, 1)), f"{case}, words {words}: exit {code}, {said[-1000:]}"
    assert len("".join(errors)) < 2000, f"{case}, words {words}: {errors}"[:2000]
    left = [path for path in Path().rglob(".*") if path.suffix in (".partial", ".old", ".lock")]
    left += Path(tempfile.gettempdir()).iterdir()
    assert not left, f"{case}, words {words}: {left}"
    return code


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """A folder with a small file or folder of every kind that is read."""
    root = tmp_path_factory.mktemp("originals")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_inputs()
    return root


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """The working directory: empty, without the hub, with caches and temporary files beside it."""
    for name in ("place", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "place")
    for name in ("ACDIT_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "place"


def contents(folder: Path) -> dict[Path, bytes]:
    """The files of a folder, and their contents."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_damaged_files(originals, place, capsys):
    """Damaged weights and data may still load; inputs stay as they are, and outputs are whole or absent."""
    codes = []
    for number in NUMBERS:
        draw = random.Random(f"{SEED} file {number}")
        reading = draw.choice(READINGS[draw.choice(sorted(READINGS))])
        for name in (reading.damaged, *reading.more):
            source = originals / name
            if source.exists():
                shutil.copytree(source, name) if source.is_dir() else shutil.copy(source, name)
        files = sorted(path for path in Path(reading.damaged).rglob("*") if path.is_file())
        small = [file for file in files if file.suffix in (".json", ".jsonl", ".yaml", ".csv")]
        file = draw.choice((small if small and draw.random() < 0.6 else files) or [Path(reading.damaged)])
        file.write_bytes(damaged(file.read_bytes(), draw))
        before = contents(Path())
        case = f"seed {SEED}, case {number}, {file}"
        code = attempt(reading.words, case, place.parent / "CASE", capsys)
        codes.append(code)
        _check_files(reading.grows, reading.out, code, before, f"{case}, words {reading.words}")
        clean(place)
    assert ONLY is not None or (codes.count(2) > CASES / 4 and (CASES < 100 or 0 in codes))


def _check_files(
    grows: tuple[str, ...], out: str | None, code: int, before: dict[Path, bytes], case: str
) -> None:
    """Fail if an input changed, or anything but a whole output is new."""
    after = {path: content for path, content in contents(Path()).items() if path.parts[0] not in grows}
    before = {path: content for path, content in before.items() if path.parts[0] not in grows}
    new = {path: content for path, content in after.items() if out is None or path.parts[0] != out}
    assert new.keys() == before.keys(), f"{case}: {new.keys() ^ before.keys()}"
    assert new == before, f"{case}: {[path for path in new if new[path] != before[path]]}"
    if out is not None:
        assert Path(out).exists() == (code == 0), f"{case}: exit {code}, {after.keys()}"
        try:
            check_whole(Path(out)) if code == 0 else None
        except Exception as error:
            raise AssertionError(f"{case}: {out} is not whole") from error


def clean(folder: Path) -> None:
    """Remove everything from a folder."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def test_random_command_lines(originals, place, capsys):
    shutil.copytree(originals, place, dirs_exist_ok=True)
    before = {*place.parent.iterdir(), place.parent / "cache", place.parent / "CASE"}
    for number in NUMBERS:
        words = words_of(random.Random(f"{SEED} words {number}"))
        attempt(words, f"seed {SEED}, words {number}", place.parent / "CASE", capsys)
        assert {*place.parent.iterdir()} <= before, words
