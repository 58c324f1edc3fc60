"""What the README and the pages show is run: Python as it stands, `acdit` commands but for the training."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from acdit.bench.rows import ROWS
from acdit.cli.bench import BenchOptions
from acdit.cli.main import load_command, main
from acdit.cli.study import options_of
from acdit.media.videos import read_frames
from acdit.studies.study import ENTRIES
from acdit.training.recipes import load_recipe
from acdit.utils.settings import build, read_arguments
from tests.checkpoints import eightfold_autoencoder, thousand_classes
from tests.evaluation.stored import stored

ROOT = Path(__file__).parents[1]
NAMES = (
    "sampling",
    "training",
    "video",
    "text",
    "latent-space",
    "published-weights",
    "scores",
    "speed",
    "studies",
)
README = (ROOT / "README.md").read_text()
PAGES = "\n".join((ROOT / "docs" / f"{name}.md").read_text() for name in NAMES)
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGES, re.DOTALL)


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
    assert len(EXAMPLES) == 3
    assert {words[0] for words in COMMANDS} == {
        *("sample", "info", "train", "curves", "evaluate", "convert", "autoencoder", "encode", "plan"),
        *("bench", "study", "tokenizer"),
    }


def test_the_readme_is_short_and_its_links_lead_somewhere():
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert len(prose.split()) <= 900
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
        local = [link for link in links if not link.startswith("http")]
        assert [link for link in local if not (page.parent / link).exists()] == [], page


def test_the_readme_shows_commands_of_the_pages_or_shorter_ones(tmp_path, monkeypatch, capsys):
    """Those that are on no page are run, or read where they train or score."""
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert Path("three.png").exists()
    own = [words for words in commands_of(README) if words not in COMMANDS]
    assert [words[0] for words in own] == ["plan", "evaluate", "evaluate", "evaluate", "evaluate"]
    assert main(own[0]) == 2 and "latents" in capsys.readouterr().out
    for words in own[1:]:
        assert load_command("evaluate").help(words[3:]).startswith("usage: acdit evaluate")


def test_the_sampling_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = EXAMPLES[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    exec(compile(EXAMPLES[1], "sampling.md", "exec"), names)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"after-block-{block}.png" for block in range(4)),
        "continued.png",
        *(f"digit-{index}.png" for index in range(6)),
    ]
    with Image.open("digit-0.png") as three, Image.open("continued.png") as continued:
        assert three.size == continued.size == (32, 32)
        assert three.getextrema() == (0, 255)
        upper = (0, 0, 32, 16)
        assert three.crop(upper).tobytes() == continued.crop(upper).tobytes()
        assert three.tobytes() != continued.tobytes()


def test_the_training_example():
    names = {}
    exec(compile(EXAMPLES[2], "README.md", "exec"), names)
    gradients = [weight.grad for weight in names["model"].parameters()]
    assert names["losses"].per_view.shape == (4, 4)
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def commands(*names: str) -> list[list[str]]:
    return [words for words in COMMANDS if words[0] in names]


OF_THE_SHIPPED_MODEL = [words for words in commands("sample", "info") if "--model" not in words]


@pytest.mark.parametrize("words", OF_THE_SHIPPED_MODEL, ids=" ".join)
def test_commands_of_the_shipped_model(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 0
    assert ("--out" in words) == bool(list(tmp_path.glob("*.png")))


def test_commands_of_video(tmp_path, monkeypatch):
    """One after the other, with the model in the package, and few steps."""
    monkeypatch.chdir(tmp_path)
    listed = [words for words in COMMANDS if words[:3] == ["sample", "--model", "moving-digits"]]
    for words in listed:
        assert main([*words, "--steps", "1"]) == 0
    lengths = {path.name: len(read_frames(path)) for path in tmp_path.iterdir()}
    assert lengths == {"digits.gif": 8, "seven.mp4": 64, "on.gif": 16, "changing.gif": 8}


def test_commands_of_text(tmp_path, monkeypatch, capsys):
    """One after the other: the model in the package, and a network that is hardly trained."""
    monkeypatch.chdir(tmp_path)
    samples = [words for words in COMMANDS if "--prompt" in words]
    evaluate, *in_order = [words for words in COMMANDS if words[:3] == ["evaluate", "--model", "shakespeare"]]
    for words in samples:
        assert main(words) == 0
        assert capsys.readouterr().out.startswith("To be, or not to be")
    assert samples and main([*evaluate, "--sequences", "2", "--out", "scores.json"]) == 0
    assert [report["settings"]["block"] for report in stored("scores.json")] == [1, 4, 16]
    assert [words[words.index("--order") + 1] for words in in_order] == ["left", "lowest-entropy"]
    for words in in_order:
        assert main([*words, "--sequences", "1", "--out", "scores.json"]) == 0
        assert {report["settings"]["estimate"] for report in stored("scores.json")} == {"exact"}
    (train,) = [words for words in commands("train") if words[1] == "laptop-text"]
    small = ["--model.num_layers", "1", "--model.hidden_size", "32", "--model.num_heads", "2"]
    short = ["--training.steps", "1", "--training.batch_size", "2"]
    assert main([*train, *small, *short]) == 0
    (learn,) = commands("tokenizer")
    assert main(learn) == 0
    assert main([*train, *small, *short, "--data.tokenizer", learn[-1], "--name", "bpe"]) == 0


def test_commands_of_published_weights(tmp_path, monkeypatch):
    """One after the other, as they stand, with small files under the names that they mention."""
    monkeypatch.chdir(tmp_path)
    thousand_classes(Path("ACDiT-XL-img.pt"))
    eightfold_autoencoder(Path("stabilityai/sd-vae-ft-ema"))
    listed = [words for words in COMMANDS if words[0] == "convert" or "models/xl" in words]
    assert [words[0] for words in listed] == ["convert", "sample", "convert"]
    for words in listed:
        assert main(words) == 0
    assert Path("samples.png").exists() and Path("back.pt").exists()


def test_commands_of_latent_space(tmp_path, monkeypatch, capsys):
    """One after the other, cut short; and the plan says what the one after it is still missing."""
    monkeypatch.chdir(tmp_path)
    (learn,) = commands("autoencoder")
    assert main([*learn, "--steps", "1", "--batch_size", "2", "--model.channels", "4,4,4"]) == 0
    (encode,) = commands("encode")
    (plan,) = [words for words in commands("plan") if words[1] == encode[1]]
    assert main(plan) == 2 and "latents" in capsys.readouterr().err
    assert main([*encode, "--batch", "500"]) == 0
    assert main(plan) == 0
    assert main([*plan[:2], "--training.batch_size", "3", "--ranks", "2"]) == 2
    (train,) = [words for words in commands("train") if words[1] == encode[1]]
    assert main([*train, "--training.steps", "1", "--training.batch_size", "2"]) == 0


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
