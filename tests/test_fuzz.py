"""Random damage to every kind of file that is read, and random command lines: exit 0 or 2, never a traceback.

What fails is printed so that it can be repeated: the seed with the number of the case, or the words.
"""

import faulthandler
import json
import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from acdit.cli.main import COMMANDS, load_command, main
from acdit.data.tokenizers import train_tokenizer
from acdit.diffusion.masked_schedulers import FirstHittingScheduler
from acdit.diffusion.schedulers import default_sampler
from acdit.pipelines.text import ACDiTTextPipeline
from acdit.pipelines.video import ACDiTVideoPipeline
from acdit.training.config import Recipe
from acdit.training.loop import train
from acdit.training.recipes import recipe_to_yaml
from acdit.utils.settings import fields_of, spelled
from tests.checkpoints import IMAGE
from tests.pipelines.small import build, network, small_autoencoder
from tests.tiny import tiny_model
from tests.training.small import small_recipe

pytestmark = pytest.mark.long
SEED = int(os.environ.get("FUZZ_SEED", "0"))
CASES = int(os.environ.get("FUZZ_CASES", "200"))
LONGEST = 30  # seconds of a case


class Hang(BaseException):
    """A case that takes too long."""


@contextmanager
def limited(case: object) -> Iterator[None]:
    """Raise Hang if a case takes more than `LONGEST` seconds."""

    def stop(*_: object) -> None:
        faulthandler.dump_traceback()
        raise Hang(f"{case} does not end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempt(words: list[str], case: object, capsys: pytest.CaptureFixture[str]) -> int:
    """Run `acdit`; fails, with the case, unless it exits with 0, or with one line and 2."""
    capsys.readouterr()
    try:
        with limited(case):
            code = main(words)
    except BaseException as error:
        raise AssertionError(f"{case}, words {words}: {type(error).__name__}: {error}") from error
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("acdit: error: ")]
    assert (code, len(errors)) in ((0, 0), (2, 1)), f"{case}, words {words}: exit {code}, {said[-2000:]}"
    half = list(Path().rglob(".*.partial"))
    assert not half, f"{case}, words {words}: {half}"
    return code


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """A folder with a small file or folder of every kind that is read."""
    root = tmp_path_factory.mktemp("originals")
    build(network(4)).save_pretrained(root / "image")
    build(network(16), vae=small_autoencoder(), grid=(2, 2), block=(1, 1)).save_pretrained(root / "latent")
    video: dict[str, Any] = {"grid": (2, 4, 4), "block": (1, 4, 4), "patch": (1, 2, 2)}
    ACDiTVideoPipeline(
        tiny_model(in_channels=4, axis_lengths=(2, 4, 4), num_classes=3), default_sampler("flow"), **video
    ).save_pretrained(root / "video")
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 4, 260)
    tokenizer.save(root / "words.json")
    sizes: dict[str, Any] = {"in_channels": None, "axis_lengths": (8,), "num_classes": None}
    ACDiTTextPipeline(
        tiny_model(vocab_size=tokenizer.vocab_size, time_conditioning=False, **sizes),
        FirstHittingScheduler(mask_token=tokenizer.mask),
        tokenizer,
        grid=(8,),
        block=(4,),
    ).save_pretrained(root / "text")
    recipe = small_recipe(root / "run", training={"steps": 2, "log_every": 1})
    train(recipe)
    (root / "run.yaml").write_text(recipe_to_yaml(recipe))
    shutil.copy(IMAGE, root / "published.pt")
    (root / "texts").mkdir()
    (root / "texts" / "rows.jsonl").write_text('{"text": "the cat"}\n{"text": "a mat"}\n')
    return root


# The words that read each kind of file, after a copy of it was damaged.
READERS: dict[str, list[str]] = {
    "image": ["sample", "--model", "image", "--samples", "1", "--steps", "2", "--out", "out.png"],
    "latent": ["sample", "--model", "latent", "--samples", "1", "--steps", "2", "--out", "out.png"],
    "video": ["sample", "--model", "video", "--samples", "1", "--steps", "2", "--out", "out.gif"],
    "text": ["sample", "--model", "text", "--samples", "1", "--out", "out.txt"],
    "run": ["curves", "run", "--out", "out.png"],
    "run.yaml": ["plan", "run.yaml"],
    "published.pt": ["convert", "published.pt", "--out", "out"],
    "words.json": ["plan", "laptop-text", "--data.tokenizer", "words.json"],
    "texts": ["tokenizer", "texts", "--size", "260", "--out", "out.json"],
}


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Flip bytes, cut, repeat, replace or insert something, at random."""
    position = draw.randrange(len(content) + 1)
    near = min(position, draw.randrange(2000))  # most of a description is at the beginning
    kind = draw.randrange(6)
    if kind == 0 or not content:
        return content[: draw.choice((position, near))]
    if kind == 1:
        changed = bytearray(content)
        for _ in range(draw.choice((1, 1, 4, 64))):
            changed[draw.randrange(min(len(changed), draw.choice((2000, len(changed)))))] = draw.randrange(
                256
            )
        return bytes(changed)
    if kind == 2:
        return content[:near] + content[near : near + draw.randrange(64)] + content[near:]
    if kind == 3:
        return content[:near] + content[near + draw.randrange(1, 16) :]
    hostile = (b"\x00", b"\xff\xfe", b"9" * 5000, b"NaN", b"-1", b"1e999", b"[" * 5000, b'"', b"{}", b"null")
    cut = 0 if kind == 4 else draw.randrange(1, 8)
    return content[:near] + draw.choice(hostile) + content[near + cut :]


def clean(folder: Path) -> None:
    """Remove everything from a folder."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def test_damaged_files(originals, tmp_path, monkeypatch, capsys):
    """Damaged weights may still load."""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("ACDIT_CACHE", str(tmp_path / "cache"))
    codes = []
    for case in range(CASES):
        draw = random.Random(f"{SEED} file {case}")
        kind = draw.choice(sorted(READERS))
        source = originals / kind
        shutil.copytree(source, kind) if source.is_dir() else shutil.copy(source, kind)
        files = sorted(path for path in Path(kind).rglob("*") if path.is_file()) or [Path(kind)]
        small = [file for file in files if file.suffix in (".json", ".jsonl", ".yaml")]
        file = draw.choice(small if small and draw.random() < 0.6 else files)
        file.write_bytes(damaged(file.read_bytes(), draw))
        codes.append(attempt(READERS[kind], f"seed {SEED}, case {case}, {file}", capsys))
        clean(place)
    assert codes.count(2) > CASES / 4 and (CASES < 100 or 0 in codes)


def test_damaged_checkpoints(originals, tmp_path, monkeypatch, capsys):
    """A run whose only checkpoint is damaged is refused, or goes on if the damage is not in what it reads."""
    monkeypatch.chdir(tmp_path)
    for case in range(max(1, CASES // 10)):
        draw = random.Random(f"{SEED} checkpoint {case}")
        shutil.copytree(originals / "run", "run")
        folder = next(Path("run", "checkpoints").glob("step-*"))
        file = draw.choice(sorted(path for path in folder.iterdir() if path.is_file()))
        file.write_bytes(damaged(file.read_bytes(), draw))
        yaml = (originals / "run.yaml").read_text().replace(str(originals / "run"), "run")
        Path("run.yaml").write_text(yaml)
        attempt(["train", "run.yaml"], f"seed {SEED}, checkpoint case {case}, {file}", capsys)
        clean(tmp_path)


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
    "bench": ["--work", "none"],
    "study": ["--name", "none"],
    "doctor": ["--nothing"],
}
FIRST: dict[str, list[str]] = {
    "train": ["run.yaml", "none", "texts", "image"],
    "plan": ["run.yaml", "mnist", "none", "laptop-text"],
    "autoencoder": ["none", "run.yaml", "texts"],
    "encode": ["run.yaml", "none"],
    "info": ["image", "text", "none", ""],
    "curves": ["run", "none", "image"],
    "convert": ["published.pt", "words.json", "image", "none"],
    "tokenizer": ["texts", "none", "words.json"],
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
    if name in ("sample", "evaluate", "info") and draw.random() < 0.8:
        words += ["--model", draw.choice(("image", "latent", "video", "text"))]
    return words + BOUNDS.get(name, [])


def test_random_command_lines(originals, tmp_path, monkeypatch, capsys):
    place = tmp_path / "place"
    shutil.copytree(originals, place)
    monkeypatch.chdir(place)
    for name in ("ACDIT_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = {path.name for path in tmp_path.iterdir()} | {"cache"}
    for case in range(CASES):
        words = words_of(random.Random(f"{SEED} words {case}"))
        attempt(words, f"seed {SEED}, words {case}", capsys)
        assert {path.name for path in tmp_path.iterdir()} <= before, words


def test_the_cases_are_the_same_every_time():
    """A printed seed repeats a case."""
    made = [words_of(random.Random(f"0 words {case}")) for case in range(50)]
    assert made == [words_of(random.Random(f"0 words {case}")) for case in range(50)]
    assert len({json.dumps(words) for words in made}) > 40
