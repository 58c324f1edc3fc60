"""Texts as wrapped sequences, against the joined stream cut by hand."""

import datasets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acdit.data.config import DataConfig
from acdit.data.texts import WrappedTexts, open_texts
from acdit.data.tokenizers import ByteTokenizer
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
