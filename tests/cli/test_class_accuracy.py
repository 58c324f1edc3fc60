"""`acdit evaluate --metrics class_accuracy`: the report, the plot, and options without effect."""

import json

import pytest
from PIL import Image

from acdit.cli.main import main
from acdit.evaluation.generative_classifier import classification_report
from acdit.evaluation.labelled_data import open_labelled
from acdit.evaluation.model_evaluation import ModelSettings
from acdit.generation.batches import Sampling
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline
from tests.evaluation.stored import stored

COMMAND = ["evaluate", "--model", "mnist", "--metrics", "class_accuracy"]


def test_the_report_is_printed_written_and_plotted(tmp_path, capsys):
    out, plot = tmp_path / "scores.json", tmp_path / "confusion.png"
    options = ["--count", "10", "--draws", "1", "--data", "digits", "--out", str(out), "--plot", str(plot)]
    assert main([*COMMAND, *options]) == 0
    (written,) = stored(out)
    pipe = load_pipeline("mnist", kind=ACDiTImagePipeline)
    data = open_labelled(pipe, "mnist", "digits")
    expected = classification_report(pipe, data, ModelSettings(Sampling(0, 64), 10, 1))
    assert written == json.loads(json.dumps(expected.to_json()))
    printed = capsys.readouterr().out
    assert printed.strip() == expected.table().strip()
    assert "the images of digits are resized from 8x8 to 32x32" in printed
    with Image.open(plot) as picture:
        assert len(set(picture.convert("L").resize((64, 64)).tobytes())) > 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--guidance", "2"], "--guidance has no effect on --metrics class_accuracy"),
        (["--steps", "4"], "--steps has no effect"),
        (["--fast"], "--fast has no effect"),
        (["--block", "8x8"], "--block has no effect"),
        (["--sweep", "steps=1,2"], "--sweep has no effect"),
        (["--real", "digits"], "--real has no effect"),
        (["--intervals"], "--intervals has no effect"),
        (["--plot", "a.pdf"], "--plot must be a .png file"),
        (["--draws", "0"], "--draws must be at least 1"),
        (["--split", "train"], "add --data"),
        (["--count", "5000"], "has 1,000 samples, so 5,000"),
        (["--data", "moving-digits"], "holds clips"),
        (["--data", "no/such/folder"], "no/such/folder"),
    ],
)
def test_what_has_no_effect_is_refused(options, message, capsys):
    assert main([*COMMAND, *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_it_is_measured_alone_and_draws_are_its_own(capsys):
    assert main(["evaluate", "--model", "mnist", "--metrics", "class_accuracy,precision"]) == 2
    assert "name it alone" in capsys.readouterr().err
    assert main(["evaluate", "--model", "mnist", "--draws", "2"]) == 2
    assert "--draws is for --metrics class_accuracy" in capsys.readouterr().err
