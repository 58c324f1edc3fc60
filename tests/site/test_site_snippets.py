"""What README, docs/ and the model cards show is run, by this file or by the one that is named for the page,
or is marked."""

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from acdit.cli.main import COMMANDS, load_command, main
from acdit.pipelines.folders import SHIPPED
from acdit.utils.settings import fields_of, spelled
from tests.cli.recording import record
from tests.site.pages import PAGES, ROOT, prose
from tests.site.running import few_steps, run_page
from tests.site.snippets import BLOCKS, REASONS, SETTING_UP, blocks_of

# Pages whose blocks need preparation, and the files in which `run_page` runs all of them.
RUN_BY = {
    "README.md": "tests/test_readme.py",
    "docs/architecture.md": "tests/test_architecture.py",
    "docs/classification.md": "tests/cli/test_classify.py",
    "docs/demo.md": "tests/playground/test_demo_command.py",
    "docs/diffusers.md": "tests/pipelines/test_diffusers_loading.py",
    "docs/latent-space.md": "tests/test_readme.py",
    "docs/published-weights.md": "tests/test_readme.py",
    "docs/sampling.md": "tests/test_readme.py",
    "docs/text.md": "tests/test_readme.py",
    "docs/training.md": "tests/test_readme.py",
    "docs/understanding.md": "tests/cli/test_class_evaluation.py",
    "docs/video.md": "tests/test_readme.py",
}
# What makes the commands of the tutorials and of the model cards short.
SHORTER = {
    "train": ["--training.steps", "2", "--training.batch_size", "4"],
    "sample": ["--steps", "1"],
    "evaluate": ["--count", "20"],
}
TEXT = {"sample": [], "evaluate": ["--sequences", "2"]}
# Scores of long continuations, of as many clips as there are: its options are read below.
TOO_LONG = {"docs/tutorials/video.md": "evaluate"}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


RUN_HERE = list(
    dict.fromkeys(
        name_of(block.page)
        for block in BLOCKS
        if block.language in ("sh", "python")
        and (not block.reasons or block.skipped)
        and name_of(block.page) not in RUN_BY
    )
)
LONG = (
    "docs/tutorials/images.md",
    "docs/tutorials/video.md",
    "docs/tutorials/text.md",
    "docs/own-data.md",
)


def test_marks_are_known_and_stand_before_blocks():
    assert {reason for block in BLOCKS for reason in block.reasons} <= REASONS
    assert [block for block in BLOCKS if block.mark.startswith("not run") and not block.reasons] == []
    text = "".join(path.read_text() for path in {block.page for block in BLOCKS})
    assert (
        len(re.findall("^<!-- not run", text, re.MULTILINE))
        == sum(bool(block.reasons) for block in BLOCKS)
        > 15
    )


def test_pages_that_are_run_elsewhere_are_run_there():
    assert all(blocks_of(ROOT / name) for name in RUN_BY)
    assert [
        name for name, file in RUN_BY.items() if f'run_page("{name}"' not in (ROOT / file).read_text()
    ] == []


def test_blocks_name_their_language():
    """Every block, indented ones too; one that is neither commands nor Python has neither in it."""
    fence = re.compile(r"^ *```(.*)\n(?:.*\n)*?^ *```$", re.MULTILINE)
    unnamed = [
        (name_of(page), language)
        for page in PAGES
        for language in fence.findall(page.read_text())
        if language not in ("sh", "python", "text")
    ]
    assert unnamed == []
    silent = [block for block in BLOCKS if block.language not in ("sh", "python")]
    code = re.compile(r"^(acdit [a-z]+ |torchrun |import |from \w+ import |\w+ = \w+\()", re.MULTILINE)
    assert [block for block in silent if code.search(block.text)] == []
    unlike = [
        words
        for block in BLOCKS
        if block.language == "sh" and not block.reasons
        for words in block.lines
        if words[0] != "acdit" and not " ".join(words).startswith(SETTING_UP)
    ]
    assert unlike == []


@pytest.mark.parametrize("name", RUN_HERE)
def test_blocks_without_a_mark_run(name, tmp_path, monkeypatch):
    """All of a page, one after the other, in an empty folder; those of tutorials in full below."""
    monkeypatch.chdir(tmp_path)
    short = SHORTER if "pretrained" in name else {}

    def run(words: list[str]) -> int:
        if name in LONG or "--prompt" in words:
            return few_steps(words)
        return main([*words, *short.get(words[0], [])])

    done = run_page(name, run)
    assert done
    for ran in done:
        assert ran.code == (2 if ran.block.prints else 0), ran.words  # a plan of what is not there yet
        if ran.block.prints:
            following = blocks_of(ran.block.page)[blocks_of(ran.block.page).index(ran.block) + 1]
            without_disk = [line for line in ran.out.rstrip().splitlines() if "disk:" not in line]
            assert following.text.rstrip().splitlines() == without_disk


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_tutorials_run_when_they_are_shortened(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    extra = SHORTER | (TEXT if name.endswith("text.md") else {})
    marked = [words for block in blocks_of(ROOT / name) if block.reasons for words in block.commands]

    def run(words: list[str]) -> int:
        if words[0] == TOO_LONG.get(name):
            return 0
        return main([*words, *(extra.get(words[0], []) if words in marked else [])])

    done = run_page(name, run, also={"minutes"})
    assert [ran.words for ran in done if ran.code] == [] and any(ran.block.reasons for ran in done)


EVERY = list(dict.fromkeys((name_of(block.page), *words) for block in BLOCKS for words in block.commands))
INLINE = re.compile(r"`acdit ([^`]+)`")
PLACEHOLDER = re.compile(r"^[A-Z][A-Z_]*$|:[A-Z]+$|^VIRTUAL_|\|")
CLASSIFIERS = ("runs/classify", "runs/reader", "runs/classifier")


def reached(words: list[str], monkeypatch) -> list[str]:
    """Run a command up to the point where its options are complete; return the names of those that got there.

    Files and models that the pages name are put into the current folder.
    """
    for key, value in pairwise(words):
        if key == "--model" and "/" in value and not Path(value).exists():
            shipped = "mnist-classifier" if value.startswith(CLASSIFIERS) else "mnist"
            shipped = {"runs/clips": "moving-digits", "runs/my-clips": "moving-digits"}.get(value, shipped)
            shipped = {"runs/text": "shakespeare", "runs/laptop-text": "shakespeare"}.get(value, shipped)
            Path(value).mkdir(parents=True)
            shutil.copytree(SHIPPED / shipped, Path(value, "pipeline"))
    for folder in ("my-pictures/a", "my-clips/a", "my-texts"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    Path("my.yaml").write_text("name: mine\n")
    called: list[str] = []
    for name in COMMANDS:
        record(monkeypatch, name, lambda options, name=name: called.append(name))
    code = main(words)
    assert code == 0 or not called
    return called


@pytest.mark.parametrize("line", EVERY, ids=" ".join)
def test_every_command_has_options_that_there_are(line, tmp_path, monkeypatch, capsys):
    """Those that are marked too: they are read, and stopped where they would begin."""
    monkeypatch.chdir(tmp_path)
    words = list(line[1:])
    assert reached(words, monkeypatch) == [words[0]] or "--help" in words, capsys.readouterr().err


def option_names(words: list[str]) -> set[str]:
    """The options that a command has for models of any modality, as they are typed."""
    return {
        f"--{spelled(key)}" for cls in load_command(words[0]).option_classes() for key in fields_of(cls)
    } | {"--help", "--print_config"}


def test_commands_in_sentences_have_options_that_there_are(tmp_path, monkeypatch, capsys):
    """Words in capitals stand for values; commands without them are read as a whole."""
    monkeypatch.chdir(tmp_path)
    pages = [prose(page.read_text()) for page in PAGES]
    texts = {" ".join(text.split()) for page in pages for text in INLINE.findall(page)}
    lines = [shlex.split(text) for text in sorted(texts)]
    assert len(lines) > 100
    for words in lines:
        given = [word.partition("=")[0] for word in words if word.startswith("--")]
        if words[0] == "help" or words == ["--version"]:
            continue
        assert words[0] in COMMANDS, words
        assert [name for name in given if name not in option_names(words)] == [], words
        whole = len(words) > 1 and not any(PLACEHOLDER.search(word) for word in words)
        if whole and not words[-1].startswith("--"):
            with monkeypatch.context() as patched:
                assert reached(words, patched) == [words[0]], capsys.readouterr().err
