"""What the README and some pages show is run; tests/site/test_site_snippets.py says what runs the others."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image

from acdit.bench.rows import ROWS
from acdit.cli.bench import BenchOptions
from acdit.cli.main import main
from acdit.cli.study import options_of
from acdit.media.videos import read_frames
from acdit.studies.study import ENTRIES
from acdit.training.recipes import load_recipe
from acdit.utils.settings import build, read_arguments
from tests.checkpoints import eightfold_autoencoder, thousand_classes
from tests.evaluation.stored import stored
from tests.site.running import few_steps, run_page

ROOT = Path(__file__).parents[1]
NAMES = ("training", "scores", "speed", "studies")  # whose commands are looked at one by one
README = (ROOT / "README.md").read_text()
PAGES = "\n".join((ROOT / "docs" / f"{name}.md").read_text() for name in NAMES)


def commands_of(text: str) -> list[list[str]]:
    """The `acdit` commands in the shell blocks of a page, as words."""
    return [
        shlex.split(line, comments=True)[1:]
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.splitlines()
        if line.startswith("acdit ")
    ]


COMMANDS = commands_of(PAGES)


def test_there_is_something_to_run():
    assert {words[0] for words in COMMANDS} == {"train", "plan", "curves", "evaluate", "study", "bench"}


def test_the_readme_is_short_and_its_links_lead_somewhere():
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert len(prose.split()) <= 900
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md"]
    for page in (*pages, *(ROOT / "docs").rglob("*.md")):
        links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
        local = [link for link in links if not link.startswith("http")]
        assert [link for link in local if not (page.parent / link).exists()] == [], page


def test_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_page("README.md", few_steps)
    assert [(ran.words[:1], ran.code) for ran in done] == [
        *[(("sample",), 0)] * 3,
        ((), 0),
        (("plan",), 2),
    ]
    assert "latents" in done[-1].out and Path("three.png").exists()


@pytest.mark.parametrize("short", [True, pytest.param(False, marks=pytest.mark.long)])
def test_the_page_of_sampling(short, tmp_path, monkeypatch):
    """As it stands, and with few steps."""
    monkeypatch.chdir(tmp_path)

    def text(python: str) -> str:
        return python.replace("block=(4, 4)", "block=(4, 4), num_inference_steps=2")

    done = run_page("docs/sampling.md", few_steps, text=text) if short else run_page("docs/sampling.md")
    assert [ran.code for ran in done] == [0] * 7
    assert [ran.words[0] for ran in done if ran.words] == ["sample", "sample", "sample", "info"]
    (example, _, moved) = (ran for ran in done if not ran.words)
    assert moved.names["pipe"].transformer.dtype == torch.bfloat16
    assert len([line for line in example.block.text.splitlines() if line.strip()]) <= 10
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"after-block-{block}.png" for block in range(4)),
        "continued.png",
        *(f"digit-{index}.png" for index in range(6)),
        *("digits.png", "fast.png", "sevens.png"),
    ]
    with Image.open("digit-0.png") as three, Image.open("continued.png") as continued:
        assert three.size == continued.size == (32, 32)
        assert three.getextrema() == (0, 255)
        upper = (0, 0, 32, 16)
        assert three.crop(upper).tobytes() == continued.crop(upper).tobytes()
        assert three.tobytes() != continued.tobytes()


def test_the_page_of_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan, example = run_page("docs/training.md")
    assert (plan.words[:2], plan.code) == (("plan", "digits"), 0)
    gradients = [weight.grad for weight in example.names["model"].parameters()]
    assert example.names["losses"].per_view.shape == (4, 4)
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def commands(*names: str) -> list[list[str]]:
    return [words for words in COMMANDS if words[0] in names]


@pytest.mark.long
def test_the_page_of_video(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_page("docs/video.md", few_steps)
    assert [ran.code for ran in done] == [0] * 5 and done[-1].out.count("more frames") == 8
    lengths = {path.name: len(read_frames(path)) for path in tmp_path.iterdir()}
    assert lengths == {"digits.gif": 8, "seven.mp4": 64, "on.gif": 16, "changing.gif": 16}


@pytest.mark.long
def test_the_page_of_text(tmp_path, monkeypatch):
    """With few tokens and texts to score; then a tiny network is trained on bytes and with the tokenizer."""
    monkeypatch.chdir(tmp_path)

    def run(words: list[str]) -> int:
        if words[0] != "evaluate":
            return few_steps(words)
        count = 1 if "--order" in words else 2
        code = main([*words, "--sequences", str(count), "--out", "scores.json"])
        if "--order" in words:
            assert {report["settings"]["estimate"] for report in stored("scores.json")} == {"exact"}
        else:
            assert [report["settings"]["block"] for report in stored("scores.json")] == [1, 4, 16]
        return code

    done = run_page("docs/text.md", run)
    assert [ran.words for ran in done if ran.code] == []
    commands = [ran for ran in done if ran.words]
    assert [ran.words[0] for ran in commands] == [
        *("sample", "sample", "evaluate", "tokenizer"),
        *("evaluate", "evaluate", "sample"),
    ]
    for ran in commands:
        assert ran.out.startswith("To be, or not to be") == (ran.words[0] == "sample")
    assert len(done) - len(commands) == 3
    (train,) = [words for words in commands_of((ROOT / "docs" / "text.md").read_text()) if "train" in words]
    small = ["--model.num_layers", "1", "--model.hidden_size", "32", "--model.num_heads", "2"]
    short = ["--training.steps", "1", "--training.batch_size", "2"]
    for more in ([], ["--data.tokenizer", commands[3].words[-1], "--name", "bpe"]):
        assert main([*train, *small, *short, *more]) == 0


def test_the_page_of_published_weights(tmp_path, monkeypatch):
    """As it stands, with small files under the names that it mentions."""
    monkeypatch.chdir(tmp_path)
    thousand_classes(Path("ACDiT-XL-img.pt"))
    eightfold_autoencoder(Path("stabilityai/sd-vae-ft-ema"))
    done = run_page("docs/published-weights.md")
    assert [(ran.words[0], ran.code) for ran in done] == [("convert", 0), ("sample", 0), ("convert", 0)]
    assert Path("samples.png").exists() and Path("back.pt").exists()


def test_the_page_of_latent_space(tmp_path, monkeypatch, capsys):
    """Cut short; and a plan before the latents are written says that they are missing."""
    monkeypatch.chdir(tmp_path)
    short = {
        "autoencoder": ["--steps", "1", "--batch_size", "2", "--model.channels", "4,4,4"],
        "encode": ["--batch", "500"],
        "train": ["--training.steps", "1", "--training.batch_size", "2"],
    }

    def run(words: list[str]) -> int:
        if words[0] == "encode":
            assert main(["plan", words[1]]) == 2 and "latents" in capsys.readouterr().err
        return main([*words, *short.get(words[0], [])])

    done = run_page("docs/latent-space.md", run)
    assert [(ran.words[0], ran.code) for ran in done] == [
        (name, 0) for name in ("autoencoder", "encode", "plan", "train")
    ]
    assert main([*done[2].words[:2], "--training.batch_size", "3", "--ranks", "2"]) == 2


def test_commands_of_curves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (words,) = commands("curves")
    Path(words[1]).mkdir(parents=True)
    Path(words[1], "log.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n')
    assert main(words) == 0
    assert Path("curves.png").exists()


@pytest.mark.parametrize("words", commands("train"), ids=" ".join)
def test_training_commands_name_recipes_and_keys_that_there_are(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text("name: mine\n")
    assert main([*words, "--print_config"]) == 0
    assert load_recipe(words[1]).training.steps > 0


@pytest.mark.parametrize("words", commands("study"), ids=" ".join)
def test_studies_are_read_alone_for_they_take_long(words):
    assert words[1] in ENTRIES
    options = options_of(ENTRIES[words[1]])
    build(options, read_arguments(options, words[2:]))


@pytest.mark.parametrize("words", commands("bench"), ids=" ".join)
def test_benchmarks(words, tmp_path, monkeypatch):
    """Named rows, and those of a GPU, are read alone: they take long."""
    monkeypatch.chdir(tmp_path)
    options = build(BenchOptions, read_arguments(BenchOptions, words[1:], "work"))
    if options.layout is None:
        assert {row.name for row in options.chosen()} <= set(ROWS)
    elif options.device == "cuda":
        assert len(options.chosen()) == 2
    else:
        assert main(words) == 0
        assert options.plot is not None and Path(options.plot).exists()
