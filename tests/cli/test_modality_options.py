"""Which modality a command line is for, and what becomes of options of other modalities."""

from dataclasses import replace

import pytest

from acdit.cli.command import ModalityCommand
from acdit.cli.evaluate_text import TextEvaluateOptions
from acdit.cli.main import load_command, main
from acdit.cli.modality_options import choose_modality, modalities_of, option_class
from acdit.cli.sample_images import ImageSampleOptions
from acdit.cli.sample_text import TextSampleOptions
from acdit.cli.sample_video import VideoSampleOptions
from acdit.modalities.table import GENERATED, MODALITIES
from acdit.utils.errors import UserError

COMMANDS = ("sample", "evaluate")


@pytest.fixture
def calls(monkeypatch):
    """The options that `sample` and `evaluate` are called with."""
    seen = []
    for name in COMMANDS:
        command = load_command(name)
        assert isinstance(command, ModalityCommand)
        recorded = replace(command, run=lambda import_string, options: seen.append(options))
        monkeypatch.setattr(f"acdit.cli.{name}.COMMAND", recorded)
    return seen


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("sample", "image"),
        ("sample --labels 3 --block 4x4", "image"),
        ("sample --frames 8 --labels 3", "video"),
        ("sample --labels-by-block 3,3,7,7", "video"),
        ("sample --out a.gif", "video"),
        ("sample --out a.MP4", "video"),
        ("sample --out a.txt", "text"),
        ("sample --prompt hi", "text"),
        ("sample --prompt=hi --model=", "text"),
        ("sample --model null --top-p 0.5", "text"),
        ("sample --model shakespeare", "text"),
        ("sample --model moving-digits --out a.png", "video"),
        ("evaluate --samples 9", "image"),
        ("evaluate --data texts.txt", "text"),
        ("evaluate --data texts.txt --split test --samples 9 --seed 3", "text"),
        ("evaluate --data clips --features f.pt --trust-features", "video"),
        ("evaluate --plot a.png", "video"),
        ("evaluate --times", "text"),
        ("evaluate --samples finished.txt --data real", "text"),
        ("evaluate --samples finished.npz --data real.npz", "image"),
        ("evaluate --plot a.png --temperatures 0.5,1", "text"),
        ("evaluate --draws 8", "text"),
        ("evaluate --metrics class_accuracy --draws 8 --plot a.png", "image"),
        ("evaluate --metrics class_accuracy --draws 8 --stride 2", "video"),
    ],
)
def test_the_modality_of_a_command_line(command, name):
    word, *argv = command.split()
    assert choose_modality(word, argv)[0] is MODALITIES[name]


def test_a_model_of_the_package_is_named_where_none_is(calls):
    assert main(["sample", "--prompt", "hi", "--model="]) == 0
    assert main(["sample", "--frames", "8"]) == 0
    assert main(["evaluate", "--data", "texts.txt", "--block", "1,4"]) == 0
    assert main(["sample", "--labels", "3"]) == 0
    assert calls == [
        TextSampleOptions(model="shakespeare", prompt="hi"),
        VideoSampleOptions(model="moving-digits", frames=8),
        TextEvaluateOptions(model="shakespeare", data="texts.txt", block=["1", "4"]),
        ImageSampleOptions(model="mnist", labels=["3"]),
    ]


def test_options_that_are_switched_off_are_of_no_modality(calls):
    off = ["--fast", "false", "--frames", "null", "--vae-tiling=false"]
    assert main(["sample", "--model", "shakespeare", *off, "--samples", "2"]) == 0
    assert main(["sample", "--frames", "null", "--prompt", "", "--labels", "3"]) == 0
    assert calls == [
        TextSampleOptions(model="shakespeare", samples=2),
        ImageSampleOptions(model="mnist", labels=["3"]),
    ]


def test_options_of_other_modalities_are_named_with_those_they_are_for():
    with pytest.raises(
        UserError, match=r"^--frames: only for models of video, but this is a model of images$"
    ):
        choose_modality("sample", ["--model", "mnist", "--frames", "8", "--prompt", "hi"])
    with pytest.raises(
        UserError, match=r"^--labels, --fast: only for models of images and video, but this is"
    ):
        choose_modality("sample", ["--model", "shakespeare", "--labels", "8", "--fast"])
    with pytest.raises(UserError, match=r"^unknown option --promt \(value 'hi'\); did you mean --prompt\?$"):
        choose_modality("sample", ["--promt", "hi"])


def test_help_shows_the_options_of_one_modality(capsys):
    shown = {}
    for name, words in {
        "image": [],
        "video": ["--model", "moving-digits"],
        "text": ["--prompt", "hi"],
    }.items():
        assert main(["sample", *words, "--help"]) == 0
        shown[name] = capsys.readouterr().out
    assert "--keep-blocks" in shown["image"] and "--frames" not in shown["image"]
    assert "--frames" in shown["video"] and "--count" not in shown["video"]
    assert "--prompt" in shown["text"] and "--labels" not in shown["text"]
    assert "acdit sample --model shakespeare --help" in shown["image"]
    assert main(["sample", "--model", "no/such", "--nonsense", "--help"]) == 0
    assert capsys.readouterr().out == shown["image"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_modality_has_options(command):
    common = {"model", "device", "dtype", "batch", "out"}
    for modality in modalities_of(command):
        generates = {"seed", "steps"} if modality in GENERATED.values() else set()
        assert common | generates <= set(option_class(command, modality).__dataclass_fields__)
