"""One line about what a data set holds, built from counts, and printed when commands start."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from acdit.cli.main import main
from acdit.data.summary import describe


@pytest.mark.parametrize(
    ("names", "counts", "skipped", "line"),
    [
        (("china", "flower"), [12, 12], {}, "24 images, 2 classes: china 12, flower 12"),
        (
            ("a",),
            [1],
            {"x.txt": "not an image"},
            "1 image, 1 class: a 1; 1 skipped, such as x.txt (not an image)",
        ),
        (("",), [1234], {}, "1,234 images"),
        ((), [0], {"b": "r", "a": "s"}, "0 images; 2 skipped, such as b (r)"),
        (("a\nb", "é"), [0, 3], {}, "3 images, 2 classes: 'a\\nb' 0, é 3"),
        (
            tuple(f"c{index}" for index in range(1000)),
            range(1000),
            {},
            "499,500 images, 1,000 classes: c0 0, c1 1, c2 2, c3 3, c4 4, c5 5, c6 6, c7 7, ... c999 999",
        ),
        (
            tuple("abcdefgh"),
            [1] * 8,
            {},
            "8 images, 8 classes: a 1, b 1, c 1, d 1, e 1, f 1, g 1, h 1",
        ),
    ],
)
def test_the_line(names, counts, skipped, line):
    assert describe("images", names, torch.tensor(list(counts)), skipped) == line


@pytest.fixture
def pictures(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, count in (("ant", 3), ("bee", 2)):
        Path("set", name).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (8, 8), 60 * number).save(f"set/{name}/{number}.png")
    Path("set/ant/notes.txt").write_text("a text")
    return Path("set")


def test_every_command_prints_it_once_at_its_start(pictures, capsys):
    line = "5 images, 2 classes: ant 3, bee 2; 1 skipped, such as set/ant/notes.txt (not an image)"
    data = ["--data.source", str(pictures), "--data.image_size", "8", "--data.channels", "1"]
    small = ["--model.channels", "4,4", "--steps", "1", "--batch_size", "2", "--out", "vae"]
    assert main(["autoencoder", "mnist", *data, *small]) == 0
    assert capsys.readouterr().err.count(line) == 1
    latents = ["--autoencoder.model", "vae/vae", "--layout.patch", "1", "--out", "run"]
    assert main(["encode", "digits", *data, *latents]) == 0
    assert capsys.readouterr().err.count(line) == 1
    network = ["--model.num_layers", "1", "--model.hidden_size", "16", "--model.num_heads", "1"]
    steps = ["--training.steps", "1", "--training.batch_size", "2", "--layout.blocks", "2x2"]
    assert main(["train", "digits", *data, *latents, *network, *steps]) == 0
    assert capsys.readouterr().err.count("digits: 5 images, 2 classes: ant 3, bee 2\n") == 1
    pixels = ["--out", "pixels", "--layout.patch", "2"]
    assert main(["train", "digits", *data, *pixels, *network, *steps]) == 0
    said = capsys.readouterr().err
    assert said.index(f"digits: {line}") < said.index("1/1")
    Path("text.txt").write_text("a text of some words")
    texts = ["--data.source", "text.txt", "--data.tokens", "4", "--layout.blocks", "2", "--out", "texts"]
    assert main(["train", "laptop-text", *texts, *network, *steps[:4], "--validation.every", "0"]) == 0
    assert "laptop-text: 6 texts\n" in capsys.readouterr().err
    assert json.loads(Path("latents/digits/manifest.json").read_text())["count"] == 5
