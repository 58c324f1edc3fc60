"""The tab Write: texts and gaps are those of the library and of the command line."""

import json
import shlex

import pytest
import tokenizers
import torch

import acdit
from acdit.cli.main import main
from acdit.data.tokenizers import END, ByteTokenizer, SubwordTokenizer, train_tokenizer
from acdit.playground.write import check_characters
from acdit.utils.errors import UserError
from tests.pipelines.small import build_text
from tests.playground.page import first_event, named, served

WRITE = {
    "model": "letters",
    "prompt": "Ah",
    "block": 4,
    "steps": None,
    "temperature": 0.8,
    "seed": 3,
    "tokens": 9,
}
FILL = {"model": "letters", "text": "To ___ or ____", "block": 4, "temperature": 1.0, "seed": 1}


def joined(events):
    return "".join(token["text"] for event in named(events, "tokens") for token in event["tokens"])


@pytest.mark.parametrize(
    "change", [{}, {"steps": 2}, {"prompt": ""}, {"block": 16}, {"prompt": "--help 'a\"b\n"}]
)
def test_a_text_is_that_of_the_pipeline_and_of_the_copied_texts(change, page, folders, capsys):
    asked = WRITE | change
    events = page.events("/api/write", asked)
    pipe = acdit.load_pipeline(folders["letters"], kind=acdit.ACDiTTextPipeline)
    text = pipe(
        asked["prompt"],
        max_new_tokens=9,
        num_inference_steps=asked["steps"],
        block=asked["block"],
        temperature=0.8,
        generator=torch.Generator().manual_seed(3),
    ).texts[0]
    assert joined(events) == text
    done = events[-1]
    exec(compile(done["python"], "copied.py", "exec"), {})
    assert capsys.readouterr().out == text + "\n"
    assert main(shlex.split(done["command"])[1:]) == 0
    assert capsys.readouterr().out == text + "\n"


def test_every_token_says_which_step_revealed_it(page):
    events = page.events("/api/write", WRITE | {"steps": 4})
    tokens = [token for event in named(events, "tokens") for token in event["tokens"]]
    assert tokens[0] == {"text": "Ah", "step": None, "given": True}
    first = [token["step"] for token in named(events, "tokens")[0]["tokens"]]
    assert sorted(first[1:]) == [0, 1]  # one by one, in random order
    second = [token["step"] for token in named(events, "tokens")[1]["tokens"]]
    assert sorted(second) == [0, 1, 2, 3]
    assert [event["block"] for event in named(events, "tokens")] == [0, 1, 2]
    assert all(event["tokens_per_second"] > 0 for event in named(events, "tokens"))


def test_a_block_may_have_as_many_steps_as_tokens(page):
    models = {model["name"]: model for model in json.loads(page.ask("GET", "/api/models")[2])["models"]}
    assert models["letters"]["max_steps"] == 16 and models["picture"]["max_steps"] == 100
    most = models["shakespeare"]["max_steps"]
    assert most > 100
    asked = WRITE | {"model": "shakespeare", "block": most, "steps": most, "tokens": 4}
    with page.stream("/api/write", asked) as events:
        assert next(events)["event"] == "queued"
        assert first_event(events, "started")


def test_gaps_are_filled_and_the_rest_is_kept(page, folders, capsys):
    events = page.events("/api/fill", FILL)
    text = joined(events)
    assert len(text) == 14 and text.startswith("To ") and text[6:10] == " or " and "___" not in text
    pipe = acdit.load_pipeline(folders["letters"], kind=acdit.ACDiTTextPipeline)
    mask = pipe.tokenizer.mask
    ids = [mask if letter == "_" else ord(letter) for letter in FILL["text"]]
    expected = pipe(
        tokens=torch.tensor([ids]), block=4, temperature=1.0, generator=torch.Generator().manual_seed(1)
    ).texts[0]
    assert text == expected
    given = [token["given"] for event in named(events, "tokens") for token in event["tokens"]]
    assert given == [letter != "_" for letter in FILL["text"]]
    exec(compile(events[-1]["python"], "copied.py", "exec"), {})
    assert capsys.readouterr().out == expected + "\n"
    assert main(shlex.split(events[-1]["command"])[1:]) == 0
    assert capsys.readouterr().out == expected + "\n"


def test_more_tokens_than_the_model_holds(page, capsys):
    status, answer = page.post("/api/write", WRITE | {"tokens": 17})
    assert (
        status == 400 and "tokens must be at most 16, as many as the model holds, not 17" in answer["error"]
    )
    events = page.events("/api/write", WRITE | {"tokens": 15})
    assert sum(not token["given"] for event in named(events, "tokens") for token in event["tokens"]) == 14
    assert events[-1]["note"] == "the model holds 16 tokens, with those of the beginning"
    assert "note" not in page.events("/api/write", WRITE | {"tokens": 14})[-1]


def test_a_character_that_a_model_does_not_know_is_named(tmp_path):
    tokenizer = words(MODELS.BPE(VOCABULARY, [("a", "b")], unk_token="[UNK]"))
    build_text(tokenizer).save_pretrained(tmp_path / "subword")
    asked = WRITE | {"model": "subword", "tokens": 4}
    with served(tmp_path / "subword") as page:
        last = page.events("/api/write", asked | {"prompt": "ab é"})[-1]
        assert last["event"] == "error" and "does not know these characters: é; leave" in last["message"]
        last = page.events("/api/fill", FILL | {"model": "subword", "text": "é ___"})[-1]
        assert last["event"] == "error" and "does not know these characters: é; leave" in last["message"]
        assert page.events("/api/write", asked | {"prompt": "ab"})[-1]["event"] == "done"


def test_two_underscores_are_no_gap(page):
    status, answer = page.post("/api/fill", FILL | {"text": "To __ or"})
    assert status == 400 and "no gap" in answer["error"]


def test_a_text_that_is_too_long_ends_in_an_error_event(page):
    for path, values, said in (
        ("write", WRITE | {"prompt": "a" * 16}, "shorter than the model's 16 tokens, not 16"),
        ("fill", FILL | {"text": "a" * 20 + "___"}, "has 23 tokens, but the model holds 16: shorten it"),
        ("fill", FILL | {"text": "_" * 100_000}, "has 100,000 tokens, but the model holds 16: shorten it"),
    ):
        last = page.events(f"/api/{path}", values)[-1]
        assert last["event"] == "error" and said in last["message"]


@pytest.mark.parametrize("path", ["write", "fill"])
@pytest.mark.parametrize(
    "given", ["\U0001f600", "\x00", "\x1b[31m", "\u202eabc", "\ufeff", "\uffff", "\r", "-h"]
)
def test_characters_of_all_sorts_are_kept(given, path, page, capsys):
    """The model reads bytes. A command that a shell could not take is left out."""
    asked = WRITE | {"prompt": given} if path == "write" else FILL | {"text": f"{given}___"}
    events = page.events(f"/api/{path}", asked)
    done = events[-1]
    assert done["event"] == "done" and joined(events).startswith(given)
    exec(compile(done["python"], "copied.py", "exec"), {})
    assert capsys.readouterr().out == joined(events) + "\n"
    if given == "\x00":
        assert done["command"] is None and "the character NUL" in done["without_command"]
    else:
        assert main(shlex.split(done["command"])[1:]) == 0
        assert capsys.readouterr().out == joined(events) + "\n"


@pytest.mark.parametrize("given", ["\ud83d", "\ude00\ud83d", "a\udcffb"])
def test_halves_of_characters_are_refused(given, page):
    for path, asked in (("write", WRITE | {"prompt": given}), ("fill", FILL | {"text": f"{given}___"})):
        last = page.events(f"/api/{path}", asked)[-1]
        assert last["event"] == "error" and "not valid Unicode" in last["message"]


def test_a_megabyte_of_text_is_refused(page):
    for path, asked in (
        ("write", WRITE | {"prompt": "a" * 2**20}),
        ("fill", FILL | {"text": "a" * 2**20 + "___"}),
    ):
        status, answer = page.post(f"/api/{path}", asked)
        assert status == 413 and "at most 262,144 bytes" in answer["error"]


def words(model, pieces="Whitespace"):
    """A tokenizer of the library `tokenizers` that does not know every character."""
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = getattr(tokenizers.pre_tokenizers, pieces)()
    inner.add_special_tokens([END])
    return SubwordTokenizer(inner.to_str())


VOCABULARY = {"[UNK]": 0, "a": 1, "b": 2, "ab": 3, " ": 4}
MODELS = tokenizers.models


@pytest.mark.parametrize(
    ("tokenizer", "unknown"),
    [
        (words(MODELS.BPE(VOCABULARY, [("a", "b")], unk_token="[UNK]")), "é"),
        (words(MODELS.BPE(VOCABULARY, [("a", "b")])), "é"),  # leaves out what it does not know
        (words(MODELS.WordPiece(VOCABULARY, unk_token="[UNK]")), "é"),
        (words(MODELS.Unigram([("[UNK]", 0.0), ("a", -1.0), ("b", -1.0)], unk_id=0)), "é"),
    ],
    ids=["BPE", "BPE without unknown", "WordPiece", "Unigram"],
)
def test_characters_that_the_tokenizer_does_not_know_are_named(tokenizer, unknown):
    check_characters(tokenizer, "a b")
    with pytest.raises(UserError, match=f"does not know these characters: {unknown}; leave them out"):
        check_characters(tokenizer, f"a {unknown} b")


def test_a_word_that_the_tokenizer_does_not_know():
    with pytest.raises(UserError, match="does not know"):
        check_characters(words(MODELS.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]")), "a ab")


@pytest.mark.parametrize(
    "tokenizer", [ByteTokenizer(), train_tokenizer(["To be"], 300)], ids=["bytes", "BPE"]
)
def test_tokenizers_of_bytes_know_every_character(tokenizer):
    check_characters(tokenizer, "To be é 汉 \U0001f600\n\t")
