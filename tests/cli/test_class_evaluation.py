"""`acdit evaluate` with a classifier: the default data, the files, and bad input in one line."""

import json
import shutil

import pytest
import torch
from PIL import Image

from acdit.cli.main import main
from acdit.data.digits import LABEL_NAMES
from acdit.evaluation.classification import ClassificationSettings, evaluate_classifier
from acdit.evaluation.labelled_data import open_labelled
from acdit.pipelines.classification import ACDiTImageClassificationPipeline
from acdit.pipelines.loading import load_pipeline
from tests.evaluation.classifiers import tiny_classifier
from tests.evaluation.stored import stored
from tests.site.running import run_page


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A classifier of the small digits, whose answers mean nothing."""
    folder = tmp_path_factory.mktemp("models") / "digits"
    network = tiny_classifier(LABEL_NAMES, torch.float32, in_channels=1, axis_lengths=(8, 8)).classifier
    ACDiTImageClassificationPipeline(
        network,
        grid=[8, 8],
        block=[4, 4],
        patch=[1, 1],
        id2label=dict(enumerate(LABEL_NAMES)),
        data_source="digits",
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Colour pictures of another size in ten classes, of which one file is cut off."""
    root = tmp_path_factory.mktemp("pictures")
    for label in LABEL_NAMES:
        (root / label).mkdir()
        for number in range(2):
            colour = (25 * int(label), 100, 100 * number)
            Image.new("RGB", (40, 30), colour).save(root / label / f"{number}.png")
    damaged = root / "3" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:60])  # found when it is decoded
    return root


def test_the_held_out_part_is_the_default(model, tmp_path, capsys):
    out, plots = tmp_path / "scores.json", tmp_path / "plots"
    command = ["evaluate", "--model", str(model)]
    assert main([*command, "--out", str(out), "--plot", str(plots), "--batch", "100"]) == 0
    (written,) = stored(out)
    pipe = load_pipeline(model, kind=ACDiTImageClassificationPipeline)
    data = open_labelled(pipe, str(model), None)
    assert data.samples.name == "digits, held out" and len(data.samples) == 359
    expected = evaluate_classifier(pipe, data, ClassificationSettings(batch=100))
    assert written == json.loads(json.dumps(expected.to_json()))
    assert {path.name for path in plots.iterdir()} == {"confusion.png", "reliability.png"}
    printed = capsys.readouterr().out
    assert "calibration_error" in printed and "precision" in printed
    assert main([*command, "--count", "20", "--metrics", "accuracy"]) == 0
    assert "negative_log" not in capsys.readouterr().out


def test_pictures_of_another_size_and_mode_are_converted_and_damaged_ones_named(model, folder, tmp_path):
    out = tmp_path / "scores.json"
    assert main(["evaluate", "--model", str(model), "--data", str(folder), "--out", str(out)]) == 0
    (written,) = stored(out)
    (damaged,) = written["samples"]["left_out_files"]
    assert written["samples"]["left_out"] == 1 and damaged.endswith("3/1.png")
    assert written["scores"][0]["samples"] == 19
    assert [row[1] for row in written["tables"][0]["rows"]] == [2, 2, 2, 1, *[2] * 6]


def test_data_without_a_readable_picture_are_refused(model, folder, tmp_path, capsys):
    for label in LABEL_NAMES:
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.png").write_bytes((folder / "3" / "1.png").read_bytes())
    command = ["evaluate", "--data", str(tmp_path), "--model"]
    for rest in ([str(model)], ["mnist", "--metrics", "class_accuracy", "--draws", "1"]):
        assert main([*command, *rest]) == 2
        error = capsys.readouterr().err
        assert "holds no readable sample; first problem:" in error and error.count("\n") == 1


def test_bad_input_is_one_line(model, folder, tmp_path, capsys):
    (tmp_path / "two" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "two" / "cat" / "a.png")
    flat = tmp_path / "flat"
    flat.mkdir()
    Image.new("RGB", (8, 8)).save(flat / "a.png")
    (flat / "b.npz").write_bytes(b"")
    for options, message in (
        (["--data", str(tmp_path / "two")], "class cat is new, class 0 is removed"),
        (["--data", str(flat)], "has no classes"),
        (["--data", str(flat / "b.npz")], "b.npz"),
        (["--data", "moving-digits"], "holds clips"),
        (["--data", "shakespeare"], "holds texts"),
        (["--data", str(tmp_path / "none")], "none"),
        (["--split", "test"], "add --data"),
        (["--head", "1"], "there is no head 1: the model has 1, 0 (mean pooling of layer 2)"),
        (["--timesteps", "100"], "this one reads clean images"),
        (["--metrics", "acc"], "unknown metric 'acc'"),
        (["--count", "400"], "has 359 samples"),
        (["--plot", "a.pdf"], "--plot must be a .png file or a folder"),
        (["--plot", str(folder / "0" / "0.png" / "plots")], "0.png"),
        (["--out", "a.txt"], "--out must be a .json file"),
        (["--steps", "4"], "--steps: only for models of images, text and video"),
        (["--guidance", "2"], "--guidance: only for models of images and video"),
        (["--headd", "2"], "did you mean --head?"),
    ):
        assert main(["evaluate", "--model", str(model), *options]) == 2, options
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, (options, error)
    assert main(["evaluate", "--model", "mnist", "--head", "1"]) == 2
    assert "--head: only for models of image classification" in capsys.readouterr().err


def test_the_help_is_that_of_classifiers(model, capsys):
    assert main(["evaluate", "--model", str(model), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--timesteps" in shown and "--guidance" not in shown and "--seed" not in shown


def test_the_examples_of_the_page_run(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, "runs/classify-mnist/pipeline")
    evaluated, paired = run_page("docs/understanding.md")
    assert "calibration_error" in evaluated.out
    assert f"# {paired.out.strip()}" in paired.block.text
