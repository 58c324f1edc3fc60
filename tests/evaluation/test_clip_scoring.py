"""`acdit evaluate` with a model of moving digits."""

import pytest
from PIL import Image

from acdit.cli.main import main
from acdit.diffusion.schedulers import default_sampler
from acdit.pipelines.video import ACDiTVideoPipeline
from tests.evaluation.stored import score, series, stored
from tests.pipelines.test_video import build
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    network = tiny_model(in_channels=64, axis_lengths=(4, 4, 4), num_classes=10)
    layout = (4, 4, 4), (2, 4, 4), (1, 8, 8)
    names = dict(enumerate("0123456789"))
    ACDiTVideoPipeline(network, default_sampler("flow"), None, *layout, names).save_pretrained(folder)
    return str(folder)


@pytest.mark.long
def test_clips_are_drawn_and_continued_and_scored(model, tmp_path, capsys):
    words = ["evaluate", "--model", model, "--count", "12", "--frames", "12", "--sinks", "1"]
    words += ["--steps", "1", "--batch", "5"]
    written = ["--out", str(tmp_path / "scores.json"), "--plot", str(tmp_path / "time.png")]
    assert main([*words, *written]) == 0
    (report,) = stored(tmp_path / "scores.json")
    accuracy = score(report, "label_accuracy", "moving-frames")
    assert accuracy["samples"] == score(report, "squared_error")["samples"] == 12
    assert accuracy["real"] > 0.9 > accuracy["value"]
    assert (report["settings"]["window"], report["settings"]["sinks"]) == (None, 1)
    assert score(report, "error_ratio")["value"] > 1  # the network is random
    assert len(series(report, "read")["values"]) == 8
    assert series(report, "drift")["positions"] == [4, 8] and len(series(report, "drift")["values"]) == 2
    table = capsys.readouterr().out
    assert "label_accuracy" in table and "centroid_error" in table
    with Image.open(tmp_path / "time.png") as picture:
        assert picture.width > 1000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--block", "2x4x4"], "--block: only for models of images and text, but this is a model of video"),
        (["--count", "1001"], "at most 1000"),
        (["--count", "5"], "--count must be at least 6"),
        (["--steps", "1,1"], "--steps must be one number"),
        (["--frames", "7"], "--frames must be a multiple of 2"),
        (["--frames", "4"], "and more than 4 given ones, not 4"),
        (["--features", "i3d.pt"], "add --trust-features"),
        (["--features", "i3d.pt", "--trust-features"], "i3d.pt cannot be loaded"),
        (["--plot", "time.pdf"], "--plot must be a .png"),
        (["--frames", "0"], "--frames must be at least 1"),
        (["--window", "0"], "--window must be at least 1"),
        (["--sinks", "-1"], "--sinks must be at least 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_take_one_line(model, words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "--model", model, *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_other_models_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    build().save_pretrained(tmp_path / "small")
    assert main(["evaluate", "--model", "small"]) == 2
    assert "without --data, only models of built-in data sets" in capsys.readouterr().err
    assert main(["evaluate", "--model", "mnist", "--frames", "8"]) == 2
    assert "--frames: only for models of video" in capsys.readouterr().err
