"""Random damage to every kind of file that is read, and random command lines: exit 0 or 2, never a traceback.

What fails is printed so that it can be repeated: the seed with the number of the case, and the words. If the
process dies, the case is in the file CASE of pytest's temporary folder.
"""

import faulthandler
import json
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

from acdit.cli.main import COMMANDS, load_command, main
from acdit.training.config import Recipe
from acdit.utils.settings import fields_of, spelled
from tests.fuzz_inputs import READINGS, check_whole, damaged, write_inputs

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


GOOD = ["1", "2", "4x4", "image", "text", "video", "a.png", "a.json", "a.npz", "texts", "run", "cpu", "true"]
BAD = ["-1", "0", "nan", "1e400", "", "null", "x", "2x2x2", "9" * 40, "9" * 5000, "no/such/name", "./none"]
HOSTILE = [
    "\x00",
    "\ud800",
    "é" * 300,
    "a" * 5000,
    "../..",
    "/dev/null",
    "/",
    "~",
    "--",
    "=",
    "[",
    '"',
    "1,,2",
    "%s",
]
# Options that could start minutes of work or leave the folder; each command line gets these values.
BOUNDS: dict[str, list[str]] = {
    "sample": ["--samples", "1", "--steps", "1"],
    "evaluate": ["--samples", "2", "--steps", "1"],
    "train": ["--training.steps", "1", "--out", "out"],
    "plan": ["--out", "out"],
    "autoencoder": ["--training.steps", "1", "--out", "out"],
    "encode": ["--out", "out"],
    "reference": ["--features", "pixels"],
    "bench": ["--work", "none"],
    "study": ["--name", "none"],
    "doctor": ["--nothing"],
    "demo": ["--host", "127.0.0.1", "--port", "0", "--model", "none"],  # it would serve without end
}
FIRST: dict[str, list[str]] = {
    "train": ["run.yaml", "none", "texts", "image"],
    "plan": ["run.yaml", "mnist", "none", "laptop-text"],
    "autoencoder": ["none", "run.yaml", "texts"],
    "encode": ["run.yaml", "none"],
    "info": ["image", "text", "classifier", "none", ""],
    "classify": ["ant.png", "pictures", "texts", "none"],
    "curves": ["run", "none", "image"],
    "convert": ["img.pt", "words.json", "image", "none"],
    "tokenizer": ["texts", "none", "words.json"],
    "reference": ["digits", "image", "texts", "none"],
    "completion": ["bash", "none"],
}


def words_of(draw: random.Random) -> list[str]:
    """A random command line of real options, with good, bad and hostile values."""
    name = draw.choice([name for name in COMMANDS if name != "doctor"] * 4 + ["help", "nothing", "--version"])
    if name not in COMMANDS:
        return [name, *draw.sample(GOOD + BAD, draw.randrange(3))]
    words = [name]
    if name in FIRST and draw.random() < 0.9:
        words.append(draw.choice(FIRST[name]))
    options = sorted({key for cls in load_command(name).option_classes() for key in fields_of(cls)})
    if name in ("train", "plan", "encode"):  # a few of the many keys of recipes
        options = draw.sample(sorted(fields_of(Recipe)), 20)
    for key in draw.sample(options, min(len(options), draw.randrange(5))):
        if key in ("out", "training.steps", "training.trackers", "training.compile"):
            continue
        value = draw.choice(draw.choice((GOOD, GOOD, BAD, HOSTILE)))
        spelling = f"--{spelled(key)}"
        words += draw.choice(([spelling, value], [f"{spelling}={value}"], [spelling]))
    # without a model, evaluate fits a classifier for minutes
    if name == "evaluate" or (name in ("sample", "info") and draw.random() < 0.8):
        words += ["--model", draw.choice(("image", "latent", "video", "text"))]
    if name == "classify":
        words += ["--model", draw.choice(("classifier", "noised", "image"))]
    return words + BOUNDS.get(name, [])


def test_random_command_lines(originals, place, capsys):
    shutil.copytree(originals, place, dirs_exist_ok=True)
    before = {*place.parent.iterdir(), place.parent / "cache", place.parent / "CASE"}
    for number in NUMBERS:
        words = words_of(random.Random(f"{SEED} words {number}"))
        attempt(words, f"seed {SEED}, words {number}", place.parent / "CASE", capsys)
        assert {*place.parent.iterdir()} <= before, words


def test_the_cases_are_the_same_every_time():
    """A printed seed repeats a case."""
    made = [words_of(random.Random(f"0 words {case}")) for case in range(50)]
    assert made == [words_of(random.Random(f"0 words {case}")) for case in range(50)]
    assert len({json.dumps(words) for words in made}) > 40
