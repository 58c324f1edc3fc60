"""Random command lines of real options, with good, bad and hostile values."""

import random

from acdit.cli.main import COMMANDS, load_command
from acdit.training.config import Recipe
from acdit.utils.settings import fields_of, spelled

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
# Options without which a command could work for minutes, serve without end, or leave the folder; each command
# line gets these values.
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
    "demo": ["--host", "127.0.0.1", "--port", "0", "--model", "none"],
}
# Commands that end by themselves with any options.
UNBOUNDED = ("classify", "completion", "convert", "curves", "info", "tokenizer")
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
