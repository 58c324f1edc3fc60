"""Classes by name on the command line: quoting, names that are numbers, and `null`."""

import json
import unicodedata

import pytest
import torch
from PIL import Image

from acdit.cli.main import main
from acdit.cli.sample_images import ImageSampleOptions
from acdit.cli.sample_text import TextSampleOptions
from acdit.data.config import DataConfig
from acdit.data.opening import open_samples
from acdit.generation.batches import Sampling
from acdit.generation.sample_sets import SampleSet, SetPlan
from acdit.pipelines.image import ACDiTImagePipeline
from acdit.pipelines.loading import load_pipeline
from acdit.utils.settings import build, quoted_value, read_arguments, split_values
from tests.pipelines.small import build as pipeline_of
from tests.pipelines.small import network

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
NAMES = ["0", "1", "10", "11", "2", "a, b", "[x]", " blanks ", 'a "quote"', "null", NFD, "false", "007"]


def parsed(*words):
    options = build(ImageSampleOptions, read_arguments(ImageSampleOptions, list(words)))
    return options.labels


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("3,1,4", ["3", "1", "4"]),
        ("golden retriever,tench", ["golden retriever", "tench"]),
        (" golden retriever , tench ", ["golden retriever", "tench"]),
        ("[3,1,4]", ["3", "1", "4"]),
        ("3,,1,", ["3", "1"]),
        ('"a, b"', ["a, b"]),
        ('"a, b",c, "[x]" ,d', ["a, b", "c", "[x]", "d"]),
        ('" blanks "', [" blanks "]),
        ('"a ""quote"""', ['a "quote"']),
        ('5" disk', ['5" disk']),
        ('""', [""]),
        ('["a","b"]', ["a", "b"]),
        ("[x],y", ["[x]", "y"]),
    ],
)
def test_values_are_quoted_as_in_csv(text, values):
    assert split_values(text) == values
    assert split_values(",".join(map(quoted_value, values))) == values
    assert parsed("--labels", text) == values


def test_labels_keep_their_text():
    assert parsed("--labels", "007,1e3,0x10,true,-1") == ["007", "1e3", "0x10", "true", "-1"]
    assert parsed("--labels", "9" * 5000) == ["9" * 5000]
    assert parsed("--labels", "null") == ["null"] and parsed("--labels", "~") == ["~"]
    assert parsed("--labels", "") is None and parsed() is None
    assert parsed("--labels", "a", "--labels", '"b,c"', "--labels=--d") == ["a", "b,c", "--d"]
    prompts = [["--prompt", text] for text in ("null", "false", "123", "~", '"a", b')]
    for words in prompts:
        assert build(TextSampleOptions, read_arguments(TextSampleOptions, words)).prompt == words[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes") / "model"
    torch.manual_seed(0)
    made = pipeline_of(network(4, num_classes=len(NAMES)), id2label=dict(enumerate(NAMES)))
    made.save_pretrained(folder)
    return str(folder)


def drawn(model, tmp_path, *labels):
    out = tmp_path / "picture.png"
    words = [word for label in labels for word in ("--labels", label)]
    assert main(["sample", "--model", model, "--samples", "1", "--out", str(out), *words]) == 0
    return Image.open(out).convert("L").tobytes()


def test_the_command_draws_the_class_that_it_names(model, tmp_path, capsys):
    pipeline = load_pipeline(model, kind=ACDiTImagePipeline)
    pipeline.set_progress_bar_config(disable=True)
    for label, index in (
        ("10", 2),
        ("2", 4),
        ("3", 3),
        ('"a, b"', 5),
        ('"[x]"', 6),
        ('" blanks "', 7),
        ('a "quote"', 8),
        ("null", 9),
        (NFC, 10),
        ("false", 11),
        ("007", 12),
    ):
        expected = pipeline(index, generator=[torch.Generator().manual_seed(0)]).images[0]
        assert drawn(model, tmp_path, label) == expected.tobytes()
        assert pipeline.label_ids(quoted_exactly(label)) == [index]
    assert pipeline.label_ids([10, "10"]) == [10, 2]
    plan = SetPlan(4, Sampling(batch=2), labels=["10", "2", "null"], balanced=True)
    assert SampleSet(pipeline, tmp_path, tmp_path / "set", plan).labels == [2, 4, 9, 2]
    capsys.readouterr()
    for words, said in (
        (["null"], "not 'null'"),
        (["10"], "not '10'"),
        (['"a'], "the quotes in '\"a' are not complete"),
        (["  "], "--labels must name at least one class"),
    ):
        other = "mnist" if words != ["null"] else "moving-digits"
        assert main(["sample", "--model", other, "--labels", *words, "--out", str(tmp_path / "a.png")]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def quoted_exactly(label):
    (text,) = split_values(label)
    return text


def test_null_and_false_are_values_when_the_modality_is_chosen(capsys):
    for text in ("null", "false"):
        assert main(["sample", "--model", "mnist", "--prompt", text]) == 2
        assert "--prompt: only for models of text" in capsys.readouterr().err
        assert main(["sample", "--model", "shakespeare", "--labels", text]) == 2
        assert "--labels: only for models of images and video" in capsys.readouterr().err


def test_info_lists_the_classes(model, capsys):
    assert main(["info", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class_names"] == {
        str(i): name for i, name in enumerate(NAMES)
    }
    assert main(["info", model]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("class names"))
    assert '2 10, 3 11, 4 2, 5 "a, b", 6 "[x]", 7 " blanks "' in line and "13 in all" in line
    assert line.endswith("12 007")
    assert main(["info", "mnist"]) == 0
    assert "0 0, 1 1, 2 2, 3 3, 4 4, 5 5, 6 6, 7 7, 8 8, 9 9" in capsys.readouterr().out
    assert main(["info", "shakespeare"]) == 0
    assert "class names" not in capsys.readouterr().out


def test_folders_named_by_numbers_are_in_their_order(tmp_path):
    names = [str(number) for number in range(12)]
    for name in reversed(names):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("L", (8, 8), 20 * int(name)).save(tmp_path / "images" / name / "a.png")
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"{name}/a.png\n" for name in reversed(names)), encoding="utf-8-sig")
    for listed in (None, str(listing)):
        config = DataConfig(
            source=str(tmp_path / "images"), image_size=8, channels=1, flip=False, listed=listed
        )
        data = open_samples(config, seed=0)
        assert data.label_names == tuple(names)
        for index in range(12):
            image, label = data.read(index)
            assert round((float(image.mean()) + 1) * 127.5) == 20 * label


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "--count", "x"], "--count must be a whole number, not 'x'"),
        (["sample", "--count", "0"], "--count must be at least 1, not 0"),
        (["sample", "--guidance-rising", "x"], "--guidance-rising must be true or false, not 'x'"),
        (["sample", "--seed", ""], "--seed must be a whole number, not empty"),
        (["plan", "digits", "--ranks", "x"], "--ranks must be a whole number, not 'x'"),
        (["plan", "digits", "--ranks", "0"], "--ranks must be at least 1, not 0"),
        (["plan", "digits", "--training.steps", "x"], "training.steps must be a whole number, not 'x'"),
        (["plan", "digits", "--training.steps", "0"], "training.steps must be at least 1, not 0"),
        (["info", "--json", "x"], "--json must be true or false, not 'x'"),
        (["doctor", "--json", "x"], "--json must be true or false, not 'x'"),
        (["convert", "a.pt", "--to-published", "x"], "--to-published must be true or false, not 'x'"),
        (["encode", "digits", "--batch", "x"], "--batch must be a whole number, not 'x'"),
        (["train", "digits", "--allow-changes", "x"], "--allow-changes must be true or false, not 'x'"),
        (["bench", "--repeats", "x"], "--repeats must be a whole number, not 'x'"),
    ],
)
def test_messages_name_an_option_as_typed(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert f"acdit: error: {said}" in capsys.readouterr().err


def test_a_list_with_brackets_may_be_given_again():
    assert parsed("--labels", "[3,1]", "--labels", "[4]", "--labels", '"[x]"') == ["3", "1", "4", "[x]"]
