"""`acdit classify`: a line for every picture, in order; what cannot be read is named, and nothing is lost."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from acdit.cli.main import main
from acdit.pipelines.classification import ACDiTImageClassificationPipeline
from tests.pipelines.small import build, build_classifier, build_text, network, picture
from tests.site.running import run_page


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a classifier of two heads and five pictures, one of which cannot be read."""
    root = tmp_path_factory.mktemp("classify")
    build_classifier(layers=(1, 2)).save_pretrained(root / "model")
    build(network(4)).save_pretrained(root / "generator")
    build_text().save_pretrained(root / "text")
    (root / "pictures" / "inner").mkdir(parents=True)
    for number in range(3):
        picture(1, height=9 + number, seed=number).save(root / "pictures" / f"{number}.png")
    picture(3, seed=4).save(root / "pictures" / "inner" / "4.jpg", quality=95)
    (root / "pictures" / "notes.txt").write_text("no picture")
    (root / "pictures" / ".hidden.png").write_text("no picture")
    (root / "broken").mkdir()
    (root / "broken" / "a.png").write_bytes((root / "pictures" / "0.png").read_bytes()[:60])
    picture(1, seed=5).save(root / "broken" / "b.png")
    (root / "empty").mkdir()
    return root


@pytest.fixture
def place(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def predictions(place: Path, files: list[str], top_k: int = 5, head: int = -1) -> list[list[dict]]:
    """What the pipeline says of pictures, one by one."""
    pipeline = ACDiTImageClassificationPipeline.from_pretrained(place / "model")
    return [pipeline(Image.open(place / file), top_k, head).predictions[0] for file in files]


FILES = ["pictures/0.png", "pictures/1.png", "pictures/2.png", "pictures/inner/4.jpg"]


@pytest.mark.parametrize("batch", ["1", "3", "64"])
def test_pictures_of_a_folder_are_recognised_in_order(place, capsys, batch):
    assert main(["classify", "pictures", "--model", "model", "--json", "--batch", batch]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["picture"] for line in lines] == FILES
    for line, expected in zip(lines, predictions(place, FILES), strict=True):
        assert [each["label"] for each in line["predictions"]] == [each["label"] for each in expected]
        scores = [[each["score"] for each in row] for row in (line["predictions"], expected)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_lines_are_aligned(place, capsys):
    files = ["pictures/inner/4.jpg", "pictures/0.png"]
    assert main(["classify", *files, "--model", "model", "--top-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, file, (first, second) in zip(lines, files, predictions(place, files, top_k=2), strict=True):
        cells = ", ".join(f"{each['label']} {each['score']:.3f}" for each in (first, second))
        assert line == f"{file:20}  {cells}"


def test_heads(place, capsys):
    seen = []
    for head in ("0", "1"):
        assert main(["classify", FILES[0], "--model", "model", "--json", "--head", head]) == 0
        seen.append(json.loads(capsys.readouterr().out)["predictions"])
        (expected,) = predictions(place, FILES[:1], head=int(head))
        assert [each["score"] for each in seen[-1]] == pytest.approx([each["score"] for each in expected])
    assert seen[0] != seen[1]
    assert main(["classify", FILES[0], "--model", "model", "--head", "2"]) == 2
    assert "head must lie in -2..1 (heads at the layers 1, 2), not 2" in capsys.readouterr().err


def test_unreadable_pictures_are_named_and_the_others_recognised(place, capsys):
    assert main(["classify", "broken", *FILES[:2], "--model", "model", "--json"]) == 2
    output = capsys.readouterr()
    pictures = [json.loads(line)["picture"] for line in output.out.splitlines()]
    assert pictures == ["broken/b.png", *FILES[:2]]
    (line,) = output.err.splitlines()
    assert line.startswith("acdit: error: 1 of 4 pictures cannot be read: broken/a.png: ")


def test_many_unreadable_pictures_have_a_line_each(place, capsys):
    files = [f"bad/{index}.png" for index in range(5)]
    (place / "bad").mkdir()
    for file in files:
        (place / file).write_bytes(b"no picture")
    assert main(["classify", "bad", FILES[0], "--model", "model"]) == 2
    *lines, last = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == files
    assert last == "acdit: error: 5 of 6 pictures cannot be read: they are named above"


def test_what_is_no_file_is_named(place, capsys):
    (place / "links").mkdir()
    (place / "links" / "lost.png").symlink_to("nowhere.png")
    (place / "links" / "0.png").symlink_to(place / FILES[0])
    assert main(["classify", "links", "--model", "model"]) == 0
    output = capsys.readouterr()
    assert [line.split()[0] for line in output.out.splitlines()] == ["links/0.png"]
    assert output.err == "skipped links/lost.png: it is a link that leads to no file\n"


def test_only_unreadable_pictures(place, capsys):
    assert main(["classify", "pictures/notes.txt", "broken/a.png", "--model", "model"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "2 of 2 pictures cannot be read: pictures/notes.txt: not an image; broken/a.png: " in output.err


def test_names_with_control_characters_stay_in_one_line(place, capsys, tmp_path):
    file = tmp_path / "a\nb\x1b[31m.png"
    picture(1).save(file, "PNG")
    assert main(["classify", str(file), "--model", "model"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "a\\nb\\x1b[31m.png  " in line
    file.write_bytes(b"")
    assert main(["classify", str(file), "--model", "model"]) == 2
    assert all("\x1b" not in line for line in capsys.readouterr().err.splitlines())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs at least one picture"),
        (["none.png", "--model", "model"], "none.png does not exist"),
        (["a" * 5000, "--model", "model"], "does not exist"),
        (["\0", "--model", "model"], "does not exist"),
        (["empty", "--model", "model"], "empty holds no pictures"),
        (
            [FILES[0], "--model", "generator"],
            "classify needs a classifier, such as acdit train classify-mnist",
        ),
        ([FILES[0], "--model", "text"], "a model of text, which it generates"),
        ([FILES[0], "--model", "mnist"], "a model of images, which it generates"),
        ([FILES[0], "--model", "none"], "none is not a model"),
        ([FILES[0], "--model", "model", "--top-k", "0"], "--top-k must be at least 1"),
        ([FILES[0], "--model", "model", "--top-k", "x"], "--top-k"),
        ([FILES[0], "--model", "model", "--batch", "0"], "--batch must be at least 1"),
        ([FILES[0], "--model", "model", "--device", "moon"], "--device moon cannot be used"),
        ([FILES[0], "--model", "model", "--dtype", "int8"], "--dtype"),
        ([FILES[0], "--model", "model", "--max-pixels", "9"], "more than --max-pixels 9: raise it"),
        ([FILES[0], "--model", "model", "--steps", "9"], "unknown option --steps"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_input_is_one_line(place, capsys, words, said):
    assert main(["classify", *words]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("acdit: error: ")]
    assert len(errors) == 1 and said in errors[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["sample", "--model", "model", "--out", "a.png"],
            "a model of image classification, but acdit sample",
        ),
        (["convert", "model", "--to-published", "--out", "a.pt"], "a model of image classification"),
        (["evaluate", "--model", "model", "--sweep", "steps=1"], ""),
        (["train", "digits", "--training.init_from", "model", "--out", "run", "--training.steps", "1"], ""),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands_of_generators_refuse_a_classifier_in_one_line(place, capsys, words, said):
    assert main(words) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("acdit: error: ")]
    assert len(errors) == 1 and said in errors[0]
    assert not any((place / name).exists() for name in ("a.png", "a.pt", "run/checkpoints"))


def test_half_precision_and_depth(place, capsys, tmp_path):
    """The best class of a picture of 16 bits in a smaller precision is that of the same picture in 8 bits."""
    levels = np.random.default_rng(8).integers(0, 256, (8, 8), dtype=np.uint16)
    Image.fromarray(levels * 257).save(tmp_path / "deep.png")
    Image.fromarray(levels.astype(np.uint8)).save(tmp_path / "flat.png")
    for dtype in ("float32", "bfloat16"):
        assert main(["classify", str(tmp_path), "--model", "model", "--json", "--dtype", dtype]) == 0
        deep, flat = (json.loads(line)["predictions"] for line in capsys.readouterr().out.splitlines())
        assert deep == flat
    assert torch.get_default_dtype() == torch.float32


def test_what_the_page_shows_is_run(place, monkeypatch, tmp_path):
    """With a tiny model in the place of the run, and that of the package where the page takes it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "model", "runs/classify-mnist/pipeline")
    shutil.copytree(place / "pictures", "digits")
    shutil.copy(place / FILES[0], "three.png")
    done = run_page("docs/classification.md")
    assert [ran.code for ran in done] == [0] * 7
    commands = {ran.words: ran.out.splitlines() for ran in done if ran.words}
    assert [words[0] for words in commands] == ["info", "classify", "classify", "sample", "classify"]
    assert [len(lines) for words, lines in commands.items() if "--model" in words] == [5, 4]
    assert commands["classify", "drawn.png"][-1].split()[:2] == ["drawn.png", "3"]
    first, second = (ran for ran in done if not ran.words)
    assert first.out.startswith("['")
    assert second.names["logits"].shape == (1, 2, 10)
    assert [state.shape[-1] for state in second.names["states"]] == [
        second.names["mnist"].transformer.config["hidden_size"]
    ] * 3
