"""Identity of data sets: what it depends on, and differences in words."""

import os
import shutil
from dataclasses import replace

import datasets
import pytest
import torch

from acdit.data.config import DataConfig
from acdit.data.dataset import InMemoryDataset
from acdit.data.identity import (
    DataIdentity,
    class_changes,
    data_changes,
    describe_rows,
    identify,
    row_sources,
)
from acdit.data.opening import open_samples
from acdit.utils.errors import UserError
from tests.data.test_images import encoded, opened, write


def texts_of(old, new):
    return [text for part in data_changes(old, new) for text in part]


@pytest.fixture
def pictures(tmp_path):
    names = ["cat/0.png", "cat/1.png", "dög/0.png", "dög/deep/é 1.png"]
    return write(tmp_path / "pictures", {name: encoded(seed) for seed, name in enumerate(names)})


def test_another_spelling_or_place_of_the_root_is_the_same_data(pictures, tmp_path, monkeypatch):
    identity = opened(pictures).identity
    assert identity.label_names == ("cat", "dög") and identity.counts == (2, 2)
    monkeypatch.chdir(pictures)
    (tmp_path / "link").symlink_to(pictures)
    moved = shutil.copytree(pictures, tmp_path / "elsewhere" / "other name")
    for source in (".", "../pictures/", "cat/..", f"{pictures}/", tmp_path / "link", moved):
        assert opened(source).identity == identity, source


def test_files_without_class_folders_may_move_too(tmp_path):
    flat = write(tmp_path / "flat", {f"{seed}.png": encoded(seed) for seed in range(3)})
    identity = opened(flat).identity
    renamed = flat.rename(tmp_path / "renamed")
    assert opened(renamed).label_names == ("",)
    assert texts_of(identity, opened(renamed).identity) == []
    (renamed / "0.png").write_bytes(encoded(9) + b"longer")
    assert texts_of(identity, opened(renamed).identity) == [
        "the data has 3 files as before, but they differ in name, size or order"
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: write(root, {"ant/0.png": encoded(7)}), ["class ant is new", *["was row"] * 2]),
        (lambda root: write(root, {"cat/2.png": encoded(7)}), ["class cat had 2 files and has 3"]),
        (lambda root: (root / "cat" / "1.png").unlink(), ["class cat had 2 files and has 1"]),
        (
            lambda root: (root / "cat").rename(root / "zebu"),
            ["zebu is new", "cat is removed", "dög was row 1"],
        ),
        (lambda root: shutil.rmtree(root / "cat"), ["cat is removed", "class dög was row 1 and is row 0"]),
        (
            lambda root: (root / "cat" / "1.png").rename(root / "cat" / "2.png"),
            ["class cat has 2 files as before, but they differ in name, size or order"],
        ),
        (
            lambda root: (root / "dög" / "0.png").write_bytes(encoded(9) + b"longer"),
            ["class dög has 2 files as before, but they differ"],
        ),
    ],
)
def test_every_change_of_a_folder_is_described(pictures, change, expected):
    before = opened(pictures).identity
    change(pictures)
    described = texts_of(before, opened(pictures).identity)
    assert len(described) == len(expected)
    assert all(part in text for part, text in zip(expected, described, strict=True))


def test_a_list_of_files_selects_the_data_whatever_its_own_name(pictures, tmp_path):
    identities = []
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("cat/1.png\n")
        identities.append(opened(pictures, listed=str(tmp_path / name)).identity)
    assert identities[0] == identities[1] and identities[0].counts == (1,)


def test_rows_of_a_data_set_in_a_folder(tmp_path):
    def saved(name, seeds, labels):
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])}
        )
        content = {"image": [{"bytes": encoded(seed), "path": None} for seed in seeds], "label": labels}
        datasets.Dataset.from_dict(content, features=features).save_to_disk(tmp_path / name)
        return opened(tmp_path / name).identity

    first = saved("first", [0, 1, 2], [0, 1, 1])
    assert first.counts == (1, 2) and first.label_names == ("ant", "bee")
    assert saved("again", [0, 1, 2], [0, 1, 1]) == first
    assert texts_of(first, saved("more", [0, 1, 2, 3], [0, 1, 1, 0])) == ["class ant had 1 files and has 2"]
    assert texts_of(first, saved("swapped", [0, 1, 2], [1, 0, 1]))


def test_built_in_sets_texts_and_tensors(tmp_path):
    digits = open_samples(DataConfig(source="digits"), seed=0)
    assert (digits.source, digits.recorded_name) == ("digits", "digits")
    assert digits.identity.counts == tuple(digits.labels.bincount().tolist())
    folder = write(tmp_path / "digits", {"0/0.png": encoded(0)})
    assert (opened(folder).source, opened(folder).recorded_name) == ("", "folder digits")
    assert "the data set was digits and is local files" in texts_of(digits.identity, opened(folder).identity)

    file = tmp_path / "text.txt"
    file.write_text("so foul and fair a day")
    before = open_samples(DataConfig(source=str(file), tokens=4), seed=0)
    assert before.recorded_name == "file text.txt" and before.identity.counts == (6,)
    file.write_text("so fair and foul a day")  # as long
    other = open_samples(DataConfig(source=str(file), tokens=4), seed=0)
    assert texts_of(before.identity, other.identity) == [
        "the data has 6 sequences as before, but they differ in content or order"
    ]

    values, labels = torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 1])
    tensors = InMemoryDataset(values, labels, ("a", "b"))
    assert tensors.identity == InMemoryDataset(values.clone(), labels, ("a", "b")).identity
    values = values.clone()
    values[2] += 1
    assert texts_of(tensors.identity, InMemoryDataset(values, labels, ("a", "b")).identity) == [
        "class b has 2 items as before, but they differ in content or order"
    ]


def test_an_identity_survives_json_and_order_counts():
    items = [(b"a", 0), (b"b", 1), (b"c", 0)]
    identity = identify("", "files", ("x", "y"), items)
    assert DataIdentity.from_json(identity.to_json()) == identity and DataIdentity.from_json(None) is None
    assert identify("", "files", ("x", "y"), [(b"ab", 0), (b"", 1)]) != identify(
        "", "files", ("x", "y"), [(b"a", 0), (b"b", 1)]
    )
    shuffled = identify("", "files", ("x", "y"), [items[1], items[0], items[2]])  # each class as before
    assert texts_of(identity, shuffled) == ["the files of the data are others, or in another order"]
    without = replace(identity, digests=())
    assert texts_of(identity, without) == texts_of(without, identity) == []


def test_rows_are_matched_by_name():
    assert row_sources(["cat", "dog"], ["ant", "cat", "dog"]) == [None, 0, 1]
    assert row_sources(["crane", "crane", None], ["crane", "x", "crane"]) == [0, None, 1]
    assert row_sources(["é"], ["e\u0301"]) == [0]
    assert row_sources(["e\u0301", "é"], ["e\u0301", "é"]) == [0, 1]  # two folders may be named so
    assert row_sources(["birds"], [""]) == row_sources([""], ["birds"]) == [0]
    assert class_changes(["cat", "dog"], ["ant", "cat", "dog"]) == [
        "class ant is new",
        "class cat was row 0 and is row 1",
        "class dog was row 1 and is row 2",
    ]
    assert class_changes(["a\nb"], ["a"]) == ["class a is new", "class 'a\\nb' is removed"]
    many = class_changes([], [str(index) for index in range(30)])
    assert len(many) == 9 and many[-1] == "22 more such differences"
    assert describe_rows(["cat", None], ["ant", "cat"]) == (
        "class rows are mapped by name: 1 of 2 kept, and the null row; newly initialised: ant; "
        "rows whose class name is not recorded: 1, not used"
    )


def test_a_file_name_that_is_not_utf8(tmp_path):
    name = os.fsdecode(b"cat/\xff.png")
    try:
        folder = write(tmp_path / "pictures", {name: encoded(0), "cat/1.png": encoded(1)})
    except (OSError, UnicodeError):
        pytest.skip("the file system takes no such name")
    with pytest.raises(UserError, match="is not UTF-8: rename it"):
        opened(folder)
