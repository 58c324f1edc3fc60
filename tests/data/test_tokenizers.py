"""Tokenisers: there and back, in parts, on disk, and what is refused."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st

from acdit.data.text_stream import TextStream
from acdit.data.tokenizers import END, ByteTokenizer, SubwordTokenizer, open_tokenizer, train_tokenizer
from acdit.utils.errors import UserError

TEXTS = ["the cat sat on the mat, the cat sat still", "naïve café — 東京 🎈", "the mat\n\n  the cat\t!"]


@pytest.fixture(scope="module")
def subwords():
    return train_tokenizer(TEXTS * 4, 290)


@given(st.text())
def test_bytes_there_and_back(text):
    made = ByteTokenizer()
    assert made.encode(text) == list(text.encode())
    assert made.decode(made.encode(text)) == text


@given(text=st.text(alphabet=st.characters(codec="utf-8")))
@example(text=f"one{END}two")
def test_subwords_there_and_back(subwords, text):
    assert subwords.decode(subwords.encode(text)) == text


def test_subwords_are_learned(subwords):
    """`the` is one token; all ids lie in order, the end and the mask apart."""
    assert len(subwords.encode(" the cat")) == 2
    assert subwords.size == 290 and subwords.vocab_size == 291 and subwords.mask == 290
    assert subwords.encode(f"a{END}", special=True) == [*subwords.encode("a"), subwords.eos]


def test_special_tokens_in_a_text_are_text(subwords):
    """Also after a call that reads them, and if the file does not call the end token special."""
    state = subwords.description()["state"]
    state["added_tokens"][0]["special"] = False
    for made in (subwords, SubwordTokenizer(json.dumps(state)), train_tokenizer([f"a{END}b"] * 9, 300)):
        digest = made.digest
        ids = [*made.encode("one"), made.eos, *made.encode("two")]
        assert made.encode(f"one{END}two", special=True) == ids
        plain = made.encode(f"one{END}two")
        assert made.eos not in plain and made.decode(plain) == f"one{END}two"
        assert made.spells_special(f"one{END}") and not made.spells_special("one")
        assert made.digest == digest and "encode_special_tokens" not in json.dumps(made.description())
    assert ByteTokenizer().encode(END, special=True) == list(END.encode())
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"</s>": 0, "a": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made = SubwordTokenizer(words.to_str(), "</s>")
    assert made.encode("a a") == [1, 1]
    with pytest.raises(UserError, match="cannot encode '</s>' in a text as anything but the end"):
        made.encode("a </s> a")


def test_a_tokenizer_file_may_have_a_signature(tmp_path, subwords):
    content = json.dumps(subwords.description())
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "bpe.json").write_text(content, encoding=encoding)
        assert open_tokenizer(str(tmp_path / "bpe.json")).digest == subwords.digest


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("kind", ["bytes", "subwords"])
def test_parts_are_whole_characters_and_end_with_the_text(kind, size, subwords):
    made = ByteTokenizer() if kind == "bytes" else subwords
    for text in TEXTS:
        ids = [*made.encode(text), made.eos, *made.encode("beyond")]
        stream = TextStream(made)
        parts = [stream.add(ids[at : at + size]) for at in range(0, len(ids), size)]
        assert "".join(parts) == text == made.decode(ids)
        assert not any("\ufffd" in part for part in parts)
    cut = made.encode("🎈")[:-1] or made.encode("a")
    stream = TextStream(made)
    assert stream.add(cut) + stream.add([], last=True) == made.decode(cut)


def test_spaces_between_words_depend_on_the_prompt():
    """As in Llama's tokeniser, whose first word has none."""
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    inner.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=60, special_tokens=[END], show_progress=False)
    inner.train_from_iterator(["to be or not to be"] * 5, trainer)
    made = SubwordTokenizer(inner.to_str())
    ids = made.encode("to be or not")
    for cut in range(1, len(ids)):
        stream = TextStream(made, [*made.encode("be"), made.eos, *ids[:cut]])
        parts = [stream.add([token]) for token in ids[cut:]]
        assert made.decode(ids[:cut]) + "".join(parts) == "to be or not"


@pytest.fixture(scope="module")
def words():
    """A tokenizer whose decoder joins marks with the words before them, as that of BERT."""
    inner = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="?"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    inner.decoder = tokenizers.decoders.WordPiece(cleanup=True)
    special = ["?", END]
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=80, special_tokens=special, show_progress=False)
    inner.train_from_iterator(["to be, or not to be: that's it! don't"] * 5, trainer)
    return SubwordTokenizer(inner.to_str())


@pytest.mark.parametrize("kind", ["bytes", "subwords", "words"])
@pytest.mark.parametrize("prompt", [0, 3, 500])
def test_long_streams_are_decoded_in_linear_time(kind, prompt, subwords, words, monkeypatch):
    made = {"bytes": ByteTokenizer(), "subwords": subwords, "words": words}[kind]
    line = "don't be, or not to be: that's it! " if kind == "words" else f"{TEXTS[1]} — {TEXTS[2]} "
    ids = made.encode(line * 120)
    decode, decoded = made.decode, []
    while decode(ids[:prompt]).endswith("\ufffd"):  # inside a character
        prompt += 1

    def counted(given):
        decoded.append(len(given))
        return decode(given)

    monkeypatch.setattr(made, "decode", counted)
    stream, shown = TextStream(made, ids[:prompt]), decode(ids[:prompt])
    parts = [part for at in range(prompt, len(ids), 4) for part in stream.parts(ids[at : at + 4])]
    assert len(parts) == len(ids) - prompt > 1000
    assert shown + "".join(parts) == decode(ids)
    assert max(decoded) < 200


TRAINING = """
import sys
from acdit.data import tokenizers

tokenizers.QUICK = int(sys.argv[1])
print(tokenizers.train_tokenizer(["to be or ", "not to be"] * 20, 270).digest)
"""


def test_long_training_has_bars_in_a_terminal_alone():
    """Where an output is no terminal, nothing but the result is printed, which is the same everywhere."""

    def run(quick: int, stdout_is_terminal: bool) -> tuple[str, str]:
        screen, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(quick)],
            stdout=terminal if stdout_is_terminal else subprocess.PIPE,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm"},
            cwd=Path(__file__).parents[2],
        )
        os.close(terminal)
        shown, piped = bytearray(), process.stdout.read() if process.stdout else b""
        try:
            while part := os.read(screen, 2**16):
                shown += part
        except OSError:  # the other end is closed
            pass
        os.close(screen)
        assert process.wait() == 0
        return shown.decode(), piped.decode()

    digest = train_tokenizer(["to be or ", "not to be"] * 20, 270).digest
    shown, _ = run(100, True)
    assert "Compute merges" in shown and shown.rstrip().endswith(digest)
    assert run(1000, True) == (f"{digest}\r\n", "")  # 360 characters
    assert run(100, False) == ("", f"{digest}\n")


def test_saved_and_opened(tmp_path, subwords):
    for made in (ByteTokenizer(), subwords):
        made.save(tmp_path / "tokenizer.json")
        again = open_tokenizer(str(tmp_path / "tokenizer.json"))
        assert type(again) is type(made) and again.eos == made.eos and again.size == made.size
        assert [again.encode(text) for text in TEXTS] == [made.encode(text) for text in TEXTS]
    assert isinstance(open_tokenizer("bytes"), ByteTokenizer)


def test_a_file_of_the_library_is_opened(tmp_path, subwords):
    inner = tokenizers.Tokenizer.from_str(json.dumps(subwords.description()["state"]))
    inner.save(str(tmp_path / "plain.json"))
    again = open_tokenizer(str(tmp_path / "plain.json"))
    assert again.encode(TEXTS[0]) == inner.encode(TEXTS[0]).ids
    assert again.decode(again.encode(TEXTS[1])) == TEXTS[1]


def test_a_folder_of_transformers_is_opened(tmp_path, subwords):
    from transformers import PreTrainedTokenizerFast

    inner = tokenizers.Tokenizer.from_str(json.dumps(subwords.description()["state"]))
    PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=END).save_pretrained(tmp_path)
    again = open_tokenizer(str(tmp_path))
    assert again.encode(TEXTS[0]) == subwords.encode(TEXTS[0]) and again.eos == subwords.eos


def test_what_is_refused(tmp_path, subwords):
    made = ByteTokenizer()
    with pytest.raises(UserError, match="257 is the mask: the ids of a text are 0"):
        made.decode([65, 257])
    with pytest.raises(UserError, match="-1 is not a token"):
        made.decode([-1])
    for kind in (made, subwords):
        with pytest.raises(UserError, match="not valid Unicode at character 2"):
            kind.encode("ab\udcff")
    with pytest.raises(UserError, match="at least 257 ids"):
        train_tokenizer(TEXTS, 256)
    with pytest.raises(UserError, match="no end-of-text token '</s>'"):
        SubwordTokenizer(json.dumps(subwords.description()["state"]), "</s>")
    for content in ("{", "[]", '{"a": 1}', ""):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(UserError, match="is not a tokenizer") as caught:
            open_tokenizer(str(tmp_path / "bad.json"))
        assert "\n" not in str(caught.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot be loaded"):
        open_tokenizer(str(tmp_path / "folder"))
    for name in ("./missing", "missing.json", "~/some/where"):
        with pytest.raises(UserError, match="cannot be the name of a tokenizer on the hub"):
            open_tokenizer(name)
