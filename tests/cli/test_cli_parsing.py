"""The command line until a command runs: help, options, and one clear line for each mistake."""

from dataclasses import asdict

import pytest
import yaml

import acdit
from acdit.cli.curves import CurvesOptions
from acdit.cli.evaluate_images import ImageEvaluateOptions
from acdit.cli.info import InfoOptions
from acdit.cli.main import COMMANDS, main
from acdit.cli.plan import PlanOptions
from acdit.cli.sample_images import ImageSampleOptions
from acdit.training.config import Recipe
from acdit.training.recipes import load_recipe
from acdit.utils.errors import UserError
from tests.cli.recording import record


@pytest.fixture
def calls(monkeypatch):
    """The options that commands are called with."""
    seen = []
    for name in COMMANDS:
        record(monkeypatch, name, seen.append)
    return seen


@pytest.fixture
def mistake(capsys, calls):
    """Runs a command that must end with exit code 2 and one line on stderr, and returns that line."""

    def run(*argv):
        assert main(list(argv)) == 2
        out, err = capsys.readouterr()
        assert not out and not calls
        assert err.startswith("acdit: error: ") and err.count("\n") == 1
        return err

    return run


def test_help(capsys):
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    for command in COMMANDS:
        assert f"acdit {command}" in overview
        assert main([command, "--help"]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: acdit {command}") and "example:" in text
        assert "+ " not in text.replace(" + ", "") and all(len(line) <= 100 for line in text.splitlines())
    assert main([]) == 0
    assert capsys.readouterr().out == overview


def test_help_of_a_command(capsys):
    assert main(["help", "curves"]) == 0
    helped = capsys.readouterr().out
    assert main(["curves", "--help"]) == 0
    assert capsys.readouterr().out == helped and "--smooth" in helped
    assert main(["help"]) == 0
    overview = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == overview and all(len(line) <= 100 for line in overview.splitlines())
    assert main(["help", "train", "digits"]) == 0
    assert "(default: 2000)" in capsys.readouterr().out
    assert main(["help", "curvs"]) == 2
    assert "did you mean curves" in capsys.readouterr().err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{acdit.__version__}\n"


def test_help_of_a_recipe_shows_its_values(capsys):
    assert main(["train", "digits", "--help"]) == 0
    assert "(default: 2000)" in capsys.readouterr().out


def test_train(calls):
    argv = "train mnist --training.steps 7 --model.size=B --optimizer.learning-rate 2e-3"
    assert main(argv.split()) == 0
    (recipe,) = calls
    assert isinstance(recipe, Recipe)
    assert (recipe.name, recipe.training.steps, recipe.model.size) == ("mnist", 7, "B")
    assert recipe.optimizer.learning_rate == 2e-3


@pytest.mark.parametrize("words", [["plan", "mnist"], ["train", "mnist", "--dry-run"]])
def test_plan(calls, words):
    assert main([*words, "--ranks", "8", "--flops=2e14", "--training.steps", "7", "--json"]) == 0
    (options,) = calls
    assert isinstance(options, PlanOptions)
    assert (options.ranks, options.flops, options.json) == (8, 2e14, True)
    assert (options.name, options.training.steps) == ("mnist", 7)
    assert main([*words]) == 0
    assert asdict(calls[1]) == asdict(load_recipe("mnist")) | {"ranks": 1, "flops": 4e14, "json": False}


@pytest.mark.parametrize("words", [["8x8,2x2"], ["[8x8, 2x2]"], ["8x8", "--layout.blocks", "2x2"]])
def test_sequences(calls, words):
    assert main(["train", "mnist", "--layout.blocks", *words]) == 0
    assert calls[0].layout.blocks == ["8x8", "2x2"]


def test_switches(calls):
    argv = "train mnist --training.compile --data.flip=true --optimizer.ema_warmup false"
    assert main(argv.split()) == 0
    assert calls[0].training.compile and calls[0].data.flip and not calls[0].optimizer.ema_warmup


def test_null_unsets(calls, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("model: {num_layers: 3}\n")
    assert main(["train", str(path), "--model.num_layers", "null"]) == 0
    assert calls[0].model.num_layers is None


def test_print_config_reads_back(capsys, calls, tmp_path):
    assert main(["train", "digits", "--training.steps", "9", "--print_config"]) == 0
    printed = capsys.readouterr().out
    assert not calls and yaml.safe_load(printed)["training"]["steps"] == 9
    path = tmp_path / "digits.yaml"
    path.write_text(printed)
    assert main(["train", str(path)]) == 0
    assert main(["train", "digits", "--training.steps", "9"]) == 0
    assert calls[0] == calls[1]


def test_sample_defaults(calls):
    assert main(["sample"]) == 0
    assert calls == [ImageSampleOptions(model="mnist")]
    assert calls[0].steps is None and calls[0].samples is None


def test_sample(calls):
    argv = "sample --labels 0,cat,no --steps 25,10 --guidance 3 --guidance-interval 0.1,2 --guidance-rising"
    argv += " --block 4x4 --prefix a.png --keep-blocks 2 --out=x/y.png"
    assert main(argv.split()) == 0
    expected = ImageSampleOptions(
        model="mnist",
        labels=["0", "cat", "no"],
        steps=[25, 10],
        guidance=3.0,
        guidance_interval=(0.1, 2.0),
        guidance_rising=True,
        block="4x4",
        prefix="a.png",
        keep_blocks=2,
        out="x/y.png",
    )
    assert calls == [expected]


def test_a_set_of_samples(calls):
    assert main(["sample", "--count", "50000", "--balanced", "--out", "sets/a.npz"]) == 0
    assert main(["sample", "--count", "9", "--balanced=false", "--labels", "3", "--out", "sets/a/"]) == 0
    assert calls == [
        ImageSampleOptions(model="mnist", count=50000, balanced=True, out="sets/a.npz"),
        ImageSampleOptions(model="mnist", count=9, labels=["3"], out="sets/a/"),
    ]


def test_one_number_of_steps(calls):
    assert main(["sample", "--steps", "25", "--labels", "7"]) == 0
    assert calls[0].steps == 25 and calls[0].labels == ["7"]


def test_evaluate(calls):
    argv = "evaluate --model mnist --block 8x8,4x4 --block 2x2 --out a.json"
    assert main(argv.split()) == 0
    assert calls == [ImageEvaluateOptions(model="mnist", block=["8x8", "4x4", "2x2"], out="a.json")]


@pytest.mark.parametrize("argv", [["info", "runs/m"], ["info", "--model", "runs/m"]])
def test_info(calls, argv):
    assert main([*argv, "--json"]) == 0
    assert calls == [InfoOptions(model="runs/m", json=True)]


@pytest.mark.parametrize(
    "argv",
    ["a b,c --smooth 0.9", "a --smooth=0.9 b,c", "--smooth 0.9 a b,c", "a --runs b,c --smooth 0.9"],
)
def test_curves_of_several_runs(calls, argv):
    assert main(["curves", *argv.split()]) == 0
    assert calls == [CurvesOptions(runs=["a", "b,c"], smooth=0.9)]


def test_curves_by_option(calls):
    assert main(["curves", "--runs", "a,b", "--runs", "c", "--out", "x.png"]) == 0
    assert main(["curves", "a"]) == 0
    assert calls == [CurvesOptions(runs=["a", "b", "c"], out="x.png"), CurvesOptions(runs=["a"])]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("trian", ["'trian'", "train"]),
        ("train", ["digits, ", "mnist", "YAML"]),
        ("train mnist --ranks 2", ["--ranks"]),
        ("plan", ["plan", "digits, ", "YAML"]),
        ("plan mnist --ranks 0", ["ranks", "at least 1", "0"]),
        ("plan mnist --flops 0.5", ["flops", "at least 1", "0.5"]),
        ("plan mnist --rnks 2", ["--rnks ", "--ranks?"]),
        ("train --training.steps 3", ["recipe first"]),
        ("train mnits", ["'mnits'", "mnist"]),
        ("train no/such.yaml", ["'no/such.yaml'", "mnist"]),
        ("train mnist --model.sise B", ["--model.sise", "'B'", "--model.size?"]),
        ("train mnist --steps 3", ["--steps", "--training.steps?"]),
        ("train mnist --learning-rate 3", ["--optimizer.learning_rate?"]),
        ("train mnist --model B", ["--model ", "--model.size?"]),
        ("train mnist --model.size Q", ["model.size", "S, B, L, XL, H", "'Q'"]),
        ("train mnist --training.steps x", ["training.steps", "whole number", "'x'"]),
        ("train mnist --training.steps 1.5", ["training.steps", "whole number", "'1.5'"]),
        ("train mnist --training.steps null", ["training.steps", "whole number"]),
        ("train mnist --training.seed", ["--training.seed", "whole number"]),
        ("train mnist --optimizer.betas 1,2,3", ["optimizer.betas", "2 values", "'1,2,3'"]),
        ("train mnist --layout.blocks 4y4", ["layout.blocks", "'4y4'", "4x4"]),
        ("train mnist extra", ["'extra'"]),
        ("sample model", ["'model'"]),
        ("sample --label 3", ["--label ", "--labels?"]),
        ("sample --keep-block 3", ["--keep-blocks?"]),
        ("sample --steps 3,x", ["steps", "'3,x'"]),
        ("sample --steps 0", ["--steps", "0"]),
        ("sample --samples 0", ["--samples", "0"]),
        ("sample --batch -1", ["--batch", "-1"]),
        ("sample --block 4*4", ["--block", "'4*4'"]),
        ("sample --labels ,", ["--labels"]),
        ("sample --keep-blocks 2", ["--prefix", "--keep-blocks"]),
        ("sample --prefix a.png", ["--prefix", "--keep-blocks"]),
        ("sample --guidance-interval 2,1", ["--guidance-interval", "LOW,HIGH"]),
        ("sample --dtype float8", ["dtype", "float32", "'float8'"]),
        ("sample --out a.jpg", ["--out", ".png", "'a.jpg'"]),
        ("sample --out a.npz", ["--out", "a.npz", "--count"]),
        ("sample --balanced", ["--balanced", "--count"]),
        ("sample --count 0 --out a.npz", ["--count", "0"]),
        ("sample --count 9", ["--out", ".npz", "'samples.png'"]),
        ("sample --count 9 --out a.zip", ["--out", ".npz", "'a.zip'"]),
        ("sample --count 9 --out .", ["--out", ".npz", "'.'"]),
        ("sample --count 9 --out a --samples 3", ["--samples", "--count"]),
        ("sample --count 9 --out a --prefix a.png --keep-blocks 1", ["--prefix", "--count"]),
        ("evaluate --out a.txt", ["--out", ".json"]),
        ("evaluate --block 8x8,no", ["--block", "'no'"]),
        ("info a b", ["'b'"]),
        ("info --model a b", ["'b'"]),
        ("curves", ["at least one", "acdit curves runs/mnist"]),
        ("curves --runs a b", ["'b'"]),
        ("curves a --smooth 1", ["--smooth", "below 1"]),
        ("curves a --smooth -0.1", ["--smooth", "-0.1"]),
        ("curves a --out a.jpg", ["--out", ".png", "'a.jpg'"]),
    ],
)
def test_mistakes(mistake, argv, words):
    line = mistake(*argv.split())
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("no\nsuch"), 2),
        (FileNotFoundError(2, "No such file", "a.png"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_of_commands(capsys, calls, monkeypatch, error, code):
    def fail(options):
        raise error

    record(monkeypatch, "sample", fail)
    assert main(["sample"]) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_bugs_keep_their_traceback(calls, monkeypatch):
    record(monkeypatch, "sample", lambda options: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        main(["sample"])
