"""Texts as wrapped sequences, against the joined stream cut by hand."""

import bz2
import codecs
import gzip
import json
import lzma
from dataclasses import replace

import datasets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acdit.data.config import DataConfig
from acdit.data.texts import WrappedTexts, open_texts, read_texts
from acdit.data.tokenizers import END, ByteTokenizer, SubwordTokenizer, train_tokenizer
from acdit.utils.errors import UserError

EOS = ByteTokenizer.eos
TEXTS = ["one", "", "three is longer", "naïve", "x" * 40]


def stream(documents):
    return [token for ids in documents for token in (*ids, EOS)]


def rows(made):
    return [made.decode(index).tolist() for index in range(len(made))]


def texts_of(made):
    return [token for row in rows(made) for token in row][: made.counts.sum()]


@given(
    documents=st.lists(st.lists(st.integers(0, 98), max_size=12), min_size=1, max_size=8),
    length=st.integers(1, 16),
)
def test_every_row_is_its_part_of_the_stream(documents, length):
    made = WrappedTexts(documents, [len(ids) for ids in documents], length, ByteTokenizer(), 0)
    joined = stream(documents)
    filled = joined + [EOS] * (-len(joined) % length)
    assert rows(made) == [filled[at : at + length] for at in range(0, len(filled), length)]
    assert made.counts.sum() == len(joined) and (made.counts[:-1] == length).all()


@given(documents=st.lists(st.text(max_size=9), min_size=1, max_size=6), length=st.integers(1, 16))
def test_every_row_has_the_bytes_of_its_part(documents, length):
    """However many of a document's tokens are counted at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("acdit.data.texts.PART", 4)
        check_bytes_of_parts(documents, length)


def check_bytes_of_parts(documents, length):
    ids = [list(text.encode()) for text in documents]
    sizes = [len(each) for each in ids]
    made = WrappedTexts(ids, sizes, length, ByteTokenizer(), sizes)
    joined = stream(ids)
    parts = [joined[at : at + length] for at in range(0, len(joined), length)]
    assert [made.bytes_of(index) for index in range(len(made))] == [
        sum(token != EOS for token in part) for part in parts
    ]
    for index, part in enumerate(parts):  # padding is the mask, which no text contains
        assert made[0, index]["data"].tolist() == part + [made.tokenizer.mask] * (length - len(part))


@pytest.mark.parametrize("kind", ["metaspace", "pieces", "fallback"])
def test_bytes_of_a_part_are_those_of_its_document_in_proportion(kind):
    """For tokenizers whose tokens are not bytes: parts add up to the document, longer tokens have more."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = {"<s>": 0, "\u2581a": 1, "\u2581long": 2, "##er": 3, "<0xC3>": 4, "<0xA9>": 5}
    inner = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    ids = {"metaspace": [1, 2, 2, 1], "pieces": [2, 3, 2, 3], "fallback": [2, 4, 5, 2]}[kind]
    lengths = {"metaspace": [2, 5, 5, 2], "pieces": [5, 2, 5, 2], "fallback": [5, 1, 1, 5]}[kind]
    made = WrappedTexts([ids], [4], 2, SubwordTokenizer(inner.to_str(), "<s>"), [sum(lengths) - 1])
    first, second, last = (made.bytes_of(index) for index in range(3))
    assert first + second == pytest.approx(made.bytes) and last == 0
    assert first / second == pytest.approx(sum(lengths[:2]) / sum(lengths[2:]))


def expected(texts):
    made = ByteTokenizer()
    return [token for text in texts for token in (*made.encode(text), made.eos)]


def opened(source, length=8, **options):
    return open_texts(DataConfig(source=str(source), **options), ByteTokenizer(), length)


def test_a_file_and_a_folder_of_files(tmp_path):
    texts = [text for text in TEXTS if text]
    (tmp_path / "deep").mkdir()
    for place, text in enumerate(texts):
        (tmp_path / "deep" / f"{place}.txt").write_text(text)
    (tmp_path / ".hidden").write_text("not read")
    (tmp_path / "deep" / ".git").mkdir()
    (tmp_path / "deep" / ".git" / "config").write_text("not read")
    assert texts_of(opened(tmp_path)) == expected(texts)
    one = opened(tmp_path / "deep" / "1.txt")
    assert texts_of(one) == expected([texts[1]])
    item = one[3, 0]
    assert item["data"].dtype == torch.int64 and item["data"].shape == (8,)
    assert (item["epoch"], item["index"]) == (3, 0)


def test_a_data_set(tmp_path):
    table = datasets.Dataset.from_dict({"number": list(range(5)), "text": TEXTS})
    table.save_to_disk(tmp_path / "set")
    made = opened(tmp_path / "set")
    assert texts_of(made) == expected(TEXTS)
    assert len(made) > 4
    two = datasets.Dataset.from_dict({"title": TEXTS, "text": TEXTS[::-1]})
    two.save_to_disk(tmp_path / "two")
    with pytest.raises(UserError, match=r"data\.text_column must be set; columns with texts: title, text"):
        opened(tmp_path / "two")
    with pytest.raises(UserError, match="'number' is not a column of texts; columns with texts: text"):
        opened(tmp_path / "set", text_column="number")
    made = opened(tmp_path / "two", text_column="text")
    assert texts_of(made) == expected(TEXTS[::-1])


def test_what_is_refused(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"good \xff bad")
    with pytest.raises(UserError, match=r"bad\.txt is not UTF-8: byte 0xff at 5"):
        opened(tmp_path / "bad.txt")
    (tmp_path / "none.txt").write_bytes(b"")
    with pytest.raises(UserError, match=r"none\.txt is an empty file"):
        opened(tmp_path / "none.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="is empty"):
        opened(tmp_path / "folder")
    datasets.Dataset.from_dict({"text": ["", ""]}).save_to_disk(tmp_path / "set")
    with pytest.raises(UserError, match="holds no text"):
        opened(tmp_path / "set")
    for missing in (tmp_path / "missing", "./missing", "missing.txt"):
        with pytest.raises(UserError, match="does not exist"):
            opened(missing)


SENTENCES = ["one", 'a "quoted", line\nand more', "naïve", "last"]


def tables(folder):
    """The sentences as every type of file with rows, written by other libraries."""
    frame = datasets.Dataset.from_dict({"text": SENTENCES, "number": [1, 2, 3, 4]})
    frame.to_json(folder / "a.jsonl")
    frame.to_csv(folder / "a.csv")
    frame.to_csv(folder / "a.TSV", sep="\t")
    frame.to_parquet(folder / "a.parquet")
    (folder / "a.json").write_text(json.dumps(list(frame), indent=2), encoding="utf-8")
    frame.to_json(folder / "lines.json")
    (folder / "a.ndjson").write_text((folder / "a.jsonl").read_text(), encoding="utf-16")
    return sorted(folder.iterdir())


def test_the_rows_of_tables_are_documents(tmp_path):
    files = tables(tmp_path)
    assert len(files) == 7
    for file in files:
        column = "text" if file.suffix.lower() in (".csv", ".tsv") else None
        assert texts_of(opened(file, text_column=column)) == expected(SENTENCES)
        assert list(read_texts(DataConfig(source=str(file), text_column=column))) == SENTENCES
        with pytest.raises(UserError, match=r"'none' is not a column of texts; columns with texts: .*text"):
            opened(file, text_column="none")
    (tmp_path / "a.parquet").unlink()  # a folder with such a file is a data set
    made = opened(tmp_path, text_column="text")
    assert texts_of(made) == expected(SENTENCES * 6)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text"\n', "has no JSON in line 2"),
        ("a.jsonl", b'{"text": "a"}\n["b"]\n', "line 2 holds another value"),
        ("a.jsonl", b'{"text": "a", "title": "b"}\n', "columns with texts: text, title"),
        ("a.jsonl", b'{"text": 3}\n', "data.text_column must be set; columns with texts: none"),
        ("a.json", b'[{"text": "a"}', "is not JSON"),
        ("a.json", b'["a", "b"]', "a list of JSON objects"),
        ("a.json", b'{\n  "text": "a"\n}', "has no JSON in line 1"),
        ("a.csv", b"text,n\na,b,c\n", "has 3 values in line 2, but 2 columns"),
        ("a.csv", b'text,n\n"a,b\n', "is not a table"),
        ("a.csv", b"text,text\na,b\n", "several columns of one name"),
        ("a.csv", b"text\n", "data.text_column must be set; columns with texts: none"),
        ("a.csv", b'text\n""\n', "holds no text"),
        ("a.parquet", b"PAR1", "is not a Parquet file"),
        ("a.txt", codecs.BOM_UTF8, "is an empty file"),
        ("a.txt", "naïve".encode("utf-16-le"), "has a NUL byte at 1, so it is no text"),
        ("a.txt", codecs.BOM_UTF8 + "naïve\0".encode(), "has a NUL byte at 9"),
        ("a.txt", codecs.BOM_UTF16_BE + "ab\0".encode("utf-16-be"), "has a NUL byte at 6"),
        ("a.txt", codecs.BOM_UTF16_LE + b"a\0\x00\xd8", "is not UTF-16: byte 0x00 at 4"),
        ("a.txt", codecs.BOM_UTF8 + b"a\xff", "is not UTF-8: byte 0xff at 4"),
        ("a.txt.gz", gzip.compress(b"text", mtime=0), r"is compressed \(gzip\): decompress it first"),
        ("a.jsonl", bz2.compress(b"text"), r"is compressed \(bzip2\)"),
        ("a.csv", lzma.compress(b"text"), r"is compressed \(xz\)"),
        ("a.docx", b"PK\x03\x04\0\0", r"is compressed \(zip\)"),
    ],
)
def test_files_that_are_no_texts_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    for source in (tmp_path / name, tmp_path):
        if source.is_dir() and name.endswith("parquet"):
            continue
        with pytest.raises(UserError, match=said) as refused:
            opened(source)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_signature_is_no_part_of_a_text(tmp_path, encoding):
    text = "\ufeffnaïve\r\n🎈\rend"  # after the signature a text may hold the same character
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert texts_of(opened(tmp_path / "a.txt")) == expected([text])
    for mark, order in ((codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF32_BE, "utf-32-be")):
        (tmp_path / "a.txt").write_bytes(mark + "naïve".encode(order))
        made = opened(tmp_path / "a.txt")
        assert texts_of(made) == expected(["naïve"]) and made.bytes == 6
    (tmp_path / "a.txt").write_bytes(b"BZh is how this text begins")
    assert texts_of(opened(tmp_path / "a.txt")) == expected(["BZh is how this text begins"])


def test_special_tokens_in_data_are_text_unless_requested(tmp_path):
    texts = [f"one{END}two", "three"]
    made = train_tokenizer(["one two three"] * 4, 280)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(tmp_path / "set")
    for source in (tmp_path / "a.jsonl", tmp_path / "set"):
        config = DataConfig(source=str(source))
        plain = open_texts(config, made, 8)
        ids = texts_of(plain)
        assert ids.count(made.eos) == 2
        assert "special tokens are spelled in 1 of them" in str(plain.read_otherwise) or source.suffix
        assert made.decode(ids[: ids.index(made.eos)]) == texts[0]
        special = open_texts(replace(config, special_tokens=True), made, 8)
        assert special.read_otherwise is None or source.suffix  # a table was read with its markup
        parts = [made.encode(text) for text in ("one", "two", "three")]
        assert texts_of(special) == [token for part in parts for token in (*part, made.eos)]
