"""What README and docs/ show is run, by this file or by the one that is named for the page, or is marked."""

import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from acdit.cli.main import COMMANDS, main
from acdit.pipelines.folders import SHIPPED
from tests.cli.recording import record
from tests.site.pages import ROOT
from tests.site.snippets import BLOCKS, REASONS, SETTING_UP, Block, blocks_of

# Pages whose blocks need preparation, and the files that run them.
RUN_BY = {
    "README.md": "tests/test_readme.py",
    "docs/architecture.md": "tests/test_architecture.py",
    "docs/classification.md": "tests/cli/test_classify.py",
    "docs/demo.md": "tests/playground/test_demo_command.py",
    "docs/diffusers.md": "tests/pipelines/test_diffusers_loading.py",
    "docs/latent-space.md": "tests/test_readme.py",
    "docs/published-weights.md": "tests/test_readme.py",
    "docs/sampling.md": "tests/test_readme.py",
    "docs/speed.md": "tests/test_readme.py",
    "docs/training.md": "tests/test_readme.py",
    "docs/understanding.md": "tests/cli/test_class_evaluation.py",
}
# Pages whose commands, but not whose Python, are run by tests/test_readme.py.
COMMANDS_RUN = ("docs/text.md", "docs/video.md")
# What makes the commands of the tutorials short.
SHORTER = {
    "train": ["--training.steps", "2", "--training.batch_size", "4"],
    "sample": ["--steps", "1"],
    "evaluate": ["--count", "20"],
}
# Scores of long continuations, of as many clips as there are: its options are read below.
TOO_LONG = {"docs/tutorials/video.md": "evaluate"}
TEXT = {"sample": [], "evaluate": ["--sequences", "2"]}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def is_run_here(block: Block) -> bool:
    name = name_of(block.page)
    return name not in RUN_BY and not (name in COMMANDS_RUN and block.language == "sh")


OURS = [block for block in BLOCKS if block.language in ("sh", "python") and is_run_here(block)]
PAGES = list(dict.fromkeys(name_of(block.page) for block in OURS if not block.reasons))
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
    assert [
        name for name, file in RUN_BY.items() if not (ROOT / name).exists() or not (ROOT / file).exists()
    ] == []


def test_blocks_name_their_language():
    """Every block, indented ones too; one that is neither commands nor Python has neither in it."""
    pages = [ROOT / "examples" / "README.md", *SHIPPED.glob("*/README.md"), *{b.page for b in BLOCKS}]
    fence = re.compile(r"^ *```(.*)\n(?:.*\n)*?^ *```$", re.MULTILINE)
    unnamed = [
        (name_of(page), language)
        for page in pages
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


def run_python(block: Block, names: dict[str, object]) -> None:
    exec(compile(block.text, name_of(block.page), "exec"), names)


def run_block(block: Block, names: dict[str, object], extra: dict[str, list[str]], capsys) -> None:
    if block.language == "python":
        run_python(block, names)
        return
    for words in block.commands:
        if words[0] in block.skipped or (extra and words[0] == TOO_LONG.get(name_of(block.page))):
            continue
        code = main([*words, *extra.get(words[0], [])])
        assert code == (2 if block.prints else 0), words  # a plan of what is not there yet


@pytest.mark.parametrize("name", PAGES)
def test_blocks_without_a_mark_run(name, tmp_path, monkeypatch, capsys):
    """All of a page, one after the other, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in (block for block in OURS if name_of(block.page) == name and not block.reasons):
        run_block(block, names, {}, capsys)
        if not block.prints:
            continue
        printed = capsys.readouterr().out
        following = blocks_of(block.page)[blocks_of(block.page).index(block) + 1]
        without_disk = [line for line in printed.rstrip().splitlines() if "disk:" not in line]
        assert following.text.rstrip().splitlines() == without_disk


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_tutorials_run_when_they_are_shortened(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    extra = SHORTER | (TEXT if name.endswith("text.md") else {})
    for block in (block for block in OURS if name_of(block.page) == name):
        if block.reasons <= {"minutes"}:
            run_block(block, names, extra if block.reasons else {}, capsys)


EVERY = list(dict.fromkeys((name_of(block.page), *words) for block in BLOCKS for words in block.commands))
CLASSIFIERS = ("runs/classify", "runs/reader", "runs/classifier")


@pytest.mark.parametrize("line", EVERY, ids=" ".join)
def test_every_command_has_options_that_there_are(line, tmp_path, monkeypatch, capsys):
    """Those that are marked too: they are read, and stopped where they would begin."""
    monkeypatch.chdir(tmp_path)
    words = list(line[1:])
    for key, value in pairwise(words):
        if key == "--model" and "/" in value:
            shipped = "mnist-classifier" if value.startswith(CLASSIFIERS) else "mnist"
            shipped = {"runs/clips": "moving-digits", "runs/my-clips": "moving-digits"}.get(value, shipped)
            shipped = {"runs/text": "shakespeare", "runs/laptop-text": "shakespeare"}.get(value, shipped)
            Path(value).mkdir(parents=True)
            shutil.copytree(SHIPPED / shipped, Path(value, "pipeline"))
    for folder in ("my-pictures/a", "my-clips/a", "my-texts"):
        Path(folder).mkdir(parents=True)
    Path("my.yaml").write_text("name: mine\n")
    called = []
    for name in COMMANDS:
        record(monkeypatch, name, lambda options, name=name: called.append(name))
    code = main(words)
    assert (code, called) == (0, [words[0]]) or "--help" in words, capsys.readouterr().err
