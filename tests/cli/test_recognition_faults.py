"""Bad input and full disks of commands of recognition: one line, exit code 2, nothing half-written."""

import json
import os
import resource
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from acdit.cli.main import main
from tests.evaluation.classifiers import tiny_classifier
from tests.evaluation.stored import stored
from tests.processes import PATIENCE, started

NAMES = ("ash, grey", "beech")
PICTURES = ["--data.image_size", "8", "--validation.every", "0"]
TINY = [
    *("--model.num_layers", "1", "--model.hidden_size", "16", "--model.num_heads", "1"),
    *("--training.steps", "2", "--training.batch_size", "4", "--validation.every", "0"),
]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with a classifier of two classes and pictures of them."""
    monkeypatch.chdir(tmp_path)
    tiny_classifier(NAMES, torch.float32).save_pretrained(tmp_path / "model")
    source = np.random.default_rng(0)
    for name in NAMES:
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(4):
            levels = source.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(levels).save(tmp_path / "data" / name / f"{number}.png")
    return tmp_path


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(words: list[str], capsys) -> str:
    """The one line that a command says when it refuses its input; it has written nothing."""
    before = files(Path())
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("acdit: error: ") and error.count("\n") == 1
    assert files(Path()) == before
    return error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["train", "classify-mnist", "--data.labels_per_class", "500"],
            "class '0' of mnist has 400",
        ),
        (["train", "classify-digits", "--training.init_from", "moving-digits"], "is a model of video, but a"),
        (["train", "classify-digits", "--training.init_from", "shakespeare"], "is a model of text, but a"),
        (["train", "classify-digits", "--training.init_from", "none"], "none"),
        (["train", "classify-digits", "--data.source", "data/beech", *PICTURES], "has none"),
        (["classify", "data", "--model", "moving-digits"], "is a model of video, which it generates"),
        (["classify", "data", "--model", "shakespeare"], "is a model of text, which it generates"),
        (["classify", "data", "--model", "model", "--head", "-1"], "--head must be at least 0, not -1"),
        (["classify", "data", "--model", "model", "--head", "1"], "head must lie in -1..0"),
        (["evaluate", "--model", "model", "--data", "data", "--head", "-1"], "--head must be at least 0"),
        (["evaluate", "--model", "model", "--data", "data", "--head", "1"], "there is no head 1"),
        (["study", "understandng"], "did you mean understanding?"),
        (["study", "understanding-setings"], "did you mean understanding-settings?"),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(place, capsys, words, said):
    out = ["--out", "run"] if words[0] == "train" else []
    assert said in refused([*words, *out], capsys)


@pytest.mark.parametrize("names", [["ash"], ["ash", "beech", "cedar"]])
def test_a_list_of_classes_that_does_not_fit_the_head(place, capsys, names):
    index = place / "model" / "model_index.json"
    content = json.loads(index.read_text())
    content["id2label"] = {str(row): name for row, name in enumerate(names)}
    index.write_text(json.dumps(content))
    for words in (["classify", "data"], ["evaluate", "--data", "data", "--out", "scores.json"]):
        assert "model" in refused([*words, "--model", "model"], capsys)
    words = ["train", "classify-digits", "--training.init_from", "model", "--data.source", "data"]
    refused([*words, "--data.image_size", "6", "--data.channels", "3", "--out", "run"], capsys)


def test_a_class_folder_without_pictures_is_named(place, capsys):
    for path in (place / "data" / "beech").iterdir():
        path.unlink()
    said = "has classes without a readable image: beech"
    assert said in refused(["evaluate", "--model", "model", "--data", "data", "--out", "a.json"], capsys)
    words = ["train", "classify-digits", "--data.source", "data", *PICTURES, "--out", "run"]
    assert said in refused(words, capsys)


def test_classes_with_commas_are_quoted(place, capsys):
    assert main(["classify", "data/beech/0.png", "--model", "model"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.count(",") == 2 and '"ash, grey" 0.' in line  # in the name, and between the classes
    assert main(["classify", "data/beech/0.png", "--model", "model", "--json"]) == 0
    labels = [each["label"] for each in json.loads(capsys.readouterr().out)["predictions"]]
    assert sorted(labels) == list(NAMES)


def pairs() -> dict[str, tuple[Image.Image, str, dict[str, Any], Image.Image]]:
    """Pictures of other modes with the forms of their files, and ordinary pictures that show the same."""
    levels = np.random.default_rng(3).integers(0, 256, (9, 13, 4), dtype=np.uint8)
    colour, grey = Image.fromarray(levels[..., :3]), levels[..., 0]
    palette = colour.convert("P")
    half = levels.copy()
    half[..., 3] = 255
    half[:, 6:] = (1, 2, 3, 0)  # transparent, whatever its colour
    on_white = half[..., :3].copy()
    on_white[:, 6:] = 255
    cmyk = colour.convert("CMYK")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    return {
        "palette": (palette, "PNG", {}, palette.convert("RGB")),
        "transparent": (Image.fromarray(half), "PNG", {}, Image.fromarray(on_white)),
        "16 bit": (Image.fromarray(grey.astype(np.uint16) * 257), "PNG", {}, Image.fromarray(grey)),
        "cmyk": (cmyk, "TIFF", {}, cmyk.convert("RGB")),
        "turned": (colour, "PNG", {"exif": exif}, colour.transpose(Image.Transpose.ROTATE_270)),
    }


def test_pictures_of_every_mode_are_read_as_what_they_show(place, capsys):
    for number, (name, (picture, form, more, shown)) in enumerate(pairs().items()):
        for folder, image, kind, options in (("given", picture, form, more), ("shown", shown, "PNG", {})):
            path = place / folder / NAMES[number % 2] / f"{name}.{kind.lower()}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, kind, **options)
    answers = []
    for folder in ("given", "shown"):
        capsys.readouterr()
        assert main(["classify", folder, "--model", "model", "--json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        answers.append({Path(line["picture"]).stem: line["predictions"] for line in lines})
        assert main(["evaluate", "--model", "model", "--data", folder, "--out", f"{folder}.json"]) == 0
    assert answers[0] == answers[1] and answers[0].keys() == pairs().keys()
    assert len({json.dumps(answer) for answer in answers[0].values()}) == len(answers[0])
    reports = [stored(place / f"{folder}.json")[0] for folder in ("given", "shown")]
    assert reports[0]["scores"] == reports[1]["scores"] and reports[0]["tables"] == reports[1]["tables"]
    assert reports[0]["scores"][0]["samples"] == len(answers[0])


@contextmanager
def small_disk(most: int):
    """Files of this process can have so many bytes: what is written is cut off there, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_while_a_classifier_is_trained(place, capsys):
    words = ["train", "classify-digits", *TINY, "--out", "run"]
    with small_disk(8000):
        assert main(words) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("acdit: error: ")]
    assert len(errors) == 1 and "File too large" in errors[0]
    assert not (place / "run" / "pipeline").exists()
    assert not [path for path in (place / "run").rglob("*") if path.suffix == ".safetensors"]
    assert not [path for path in (place / "run").rglob(".*") if "partial" in path.name]
    assert main(words) == 0  # with room again, the same command goes on
    assert main(["classify", "data", "--model", "run"]) == 0


def test_a_full_disk_while_plots_are_written(place, capsys):
    words = ["evaluate", "--model", "model", "--data", "data"]
    for out, plot in (("a.json", "plots"), ("b.json", "all.png")):
        with small_disk(9000):
            assert main([*words, "--out", out, "--plot", plot]) == 2
        error = capsys.readouterr().err
        assert "File too large" in error and error.count("\n") == 1
        assert stored(place / out)[0]["scores"]  # written before the plots, and complete
    assert not list((place / "plots").iterdir()) and not (place / "all.png").exists()
    assert not [path for path in place.iterdir() if "partial" in path.name]
    with small_disk(500):
        assert main([*words, "--out", "c.json"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (place / "c.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device without room")
def test_a_full_disk_while_classes_are_printed(place):
    process = started(classify_onto, str(place), "/dev/full", str(place / "said"))
    process.join(PATIENCE)
    assert process.exitcode == 2
    assert (place / "said").read_text() == "acdit: error: No space left on device\n"


def classify_onto(folder, out, said):
    """The command in this process, with its output and its errors in files."""
    os.chdir(folder)
    for path, number in ((out, 1), (said, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), number)
    sys.exit(main(["classify", "data", "--model", "model"]))


def test_classes_of_a_run_that_are_others_when_it_is_resumed(place, capsys):
    data = ["--data.source", "data", "--data.image_size", "8"]
    words = ["train", "classify-digits", *TINY, *data, "--out", "run"]
    assert main(words) == 0
    (place / "data" / "beech").rename(place / "data" / "cedar")
    for more in ([], ["--allow-changes", "true"]):
        assert "cedar is new" in refused([*words, "--training.steps", "3", *more], capsys)
