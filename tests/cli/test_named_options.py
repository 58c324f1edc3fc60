"""Messages of commands without a recipe name what the user has typed, and not keys of recipes."""

import re

import pytest

from acdit.cli.main import main
from acdit.utils.errors import UserError, renamed_keys

TEXTS = ["evaluate", "--model", "shakespeare", "--sequences", "2", "--data"]
FINISHED = ["evaluate", "--data", "shakespeare", "--samples"]
IMAGES = ["evaluate", "--model", "mnist", "--count", "20", "--data"]
REFERENCE = ["reference", "--features", "pixels", "--source"]


@pytest.fixture
def sources(tmp_path):
    """A table with two columns of texts, and an empty folder."""
    (tmp_path / "two.jsonl").write_text('{"first": "some text", "second": "some more"}\n')
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*TEXTS, "two.jsonl"], "two.jsonl: --text-column must be set; columns with texts: first, second"),
        ([*TEXTS, "two.jsonl", "--text-column", "third"], "--text-column 'third' is not a column of texts"),
        ([*TEXTS, "two.jsonl", "--split", "test"], "--split 'test' has no effect on .*two.jsonl, a file"),
        ([*FINISHED, "two.jsonl"], "two.jsonl: --text-column must be set"),
        ([*TEXTS, "empty"], "error: .*empty is empty; it must hold text files"),
        ([*IMAGES, "empty"], "error: .*empty is empty; it must hold one folder of images per class"),
        ([*IMAGES, "two.jsonl"], "error: .*two.jsonl is a file; set it to a folder of images"),
        (["tokenizer", "two.jsonl"], "two.jsonl: --text-column must be set"),
        ([*REFERENCE, "empty"], "error: .*empty is empty"),
        ([*REFERENCE, "two.jsonl"], "error: two.jsonl is neither an .npz file nor a video: give one"),
    ],
)
def test_messages_name_what_was_typed(words, said, sources, monkeypatch, capsys):
    monkeypatch.chdir(sources)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert re.search(said, error) and error.count("\n") == 1
    assert not re.search(r"\bdata\.\w+ ", error)


def test_keys_are_replaced_as_whole_words():
    class Fault(UserError):
        pass

    with (
        pytest.raises(Fault, match=r"^X and data\.sources and --split$"),
        renamed_keys({"data.source": "", "data.split": "--split"}),
    ):
        raise Fault("data.source X and data.sources and data.split")
