"""Split folders and metadata of image, video and text folders, and keys that have no effect on a source."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from acdit.data.config import DataConfig
from acdit.data.metadata import read_metadata
from acdit.data.opening import open_samples
from acdit.data.splits import held_out_config, held_out_split
from acdit.data.texts import read_texts
from acdit.training.inspection import counted_classes
from acdit.training.recipes import load_recipe
from acdit.utils.errors import UserError


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name, "PNG")
    return folder


def opened(folder: Path | str, **options):
    return open_samples(DataConfig(source=str(folder), image_size=4, **options), seed=0)


def items(folder: Path, **options) -> list[tuple[str, str]]:
    """File and class of each item."""
    data: Any = opened(folder, **options)
    paths = [Path(data.table.encoded(row)).relative_to(folder).as_posix() for row in range(len(data))]
    return [(path, data.label_names[label]) for path, label in zip(paths, data.labels.tolist(), strict=True)]


def counted(folder: Path, **options) -> int | None:
    keys = {f"data.{name}": value for name, value in options.items()}
    return counted_classes(load_recipe("digits", **{"data.source": str(folder)} | keys))


def test_folders_of_splits_are_no_classes(tmp_path):
    put(tmp_path, "train/a/1.png", "train/b/2.png", "Val/a/3.png", "Val/b/4.png", "Val/b/5.png")
    (tmp_path / "README.md").write_text("a text")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "x.txt").write_text("a text")
    assert items(tmp_path) == [("train/a/1.png", "a"), ("train/b/2.png", "b")]
    held_out = [("Val/a/3.png", "a"), ("Val/b/4.png", "b"), ("Val/b/5.png", "b")]
    assert items(tmp_path, split="validation") == items(tmp_path, split="val") == held_out
    assert counted(tmp_path) == counted(tmp_path, split="validation") == 2
    for split in ("test", "train[:1]", ""):
        with pytest.raises(
            UserError, match=r"data\.split of .* must be one of validation, train, the splits"
        ):
            opened(tmp_path, split=split)


def test_the_library_that_made_the_convention_reads_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = put(tmp_path / "set", "train/a/1.png", "train/b/2.png", "test/a/3.png")
    for split in ("train", "test"):
        rows: Any = datasets.load_dataset("imagefolder", data_dir=str(folder), split=split)
        rows = rows.cast_column("image", datasets.Image(decode=False))
        names = rows.features["label"].names
        read = [
            (Path(row["image"]["path"]).relative_to(folder).as_posix(), names[row["label"]]) for row in rows
        ]
        assert sorted(read) == items(folder, split=split)


def test_a_class_may_be_called_train(tmp_path):
    put(tmp_path, "train/1.png", "plane/2.png")
    assert items(tmp_path) == [("plane/2.png", "plane"), ("train/1.png", "train")]
    with pytest.raises(UserError, match=r"data\.split 'test' has no effect on .*, a folder without split"):
        opened(tmp_path, split="test")


def test_files_beside_folders_of_splits_are_refused(tmp_path):
    put(tmp_path, "train/a/1.png", "test/a/2.png", "loose.png")
    with pytest.raises(UserError, match=r"loose\.png is beside the split folders such as train: move it"):
        opened(tmp_path)
    (tmp_path / "loose.png").rename(tmp_path / "metadata.jsonl")
    with pytest.raises(UserError, match=r"metadata\.jsonl is beside the split folders"):
        opened(tmp_path)
    (tmp_path / "metadata.jsonl").unlink()
    put(tmp_path, "eval/a/3.png")
    with pytest.raises(UserError, match="is ambiguous: join its folders eval and test"):
        opened(tmp_path, split="test")


def metadata(folder: Path, *rows: dict) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n", "utf-8")
    return folder


def test_metadata_name_files_and_classes(tmp_path):
    names = ["1.png", "deep/2 ü.png", "3.png", "unnamed.png"]
    put(tmp_path / "train", *names)
    rows = [{"file_name": name, "label": label} for name, label in zip(names, (10, 9, 10), strict=False)]
    metadata(tmp_path / "train", *rows)
    expected = [("train/deep/2 ü.png", "9"), ("train/1.png", "10"), ("train/3.png", "10")]
    assert items(tmp_path) == expected and counted(tmp_path) == 2
    unnamed = str(tmp_path / "train" / "unnamed.png")
    assert opened(tmp_path).skipped == {unnamed: "is not named in metadata.jsonl"}
    (tmp_path / "train" / "metadata.jsonl").unlink()
    table = "\ufefffile_name,kind,label\r\n" + "".join(
        f"{row['file_name']},x,{row['label']}\r\n" for row in rows
    )
    (tmp_path / "train" / "metadata.csv").write_bytes(table.encode())
    assert items(tmp_path) == expected
    assert items(tmp_path, label_column="kind") == sorted((path, "x") for path, _ in expected)
    assert opened(tmp_path, label_column="").labels.tolist() == [0, 0, 0]
    with pytest.raises(
        UserError, match=r"'kin' is not a column of .*metadata\.csv; its columns are: file_name"
    ):
        opened(tmp_path, label_column="kin")


def test_metadata_without_classes_leave_those_of_sub_folders(tmp_path):
    put(tmp_path, "a/1.png", "b/2.png", "b/3.png")
    metadata(tmp_path, {"file_name": "b/2.png", "text": "x"}, {"file_name": "a/1.png", "text": "y"})
    assert items(tmp_path) == [("a/1.png", "a"), ("b/2.png", "b")]
    with pytest.raises(UserError, match="is not read: metadata"):
        (tmp_path / "metadata.jsonl").rename(tmp_path / "a" / "metadata.jsonl")
        opened(tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"file_name": "../1.png"}', r"names '\.\./1\.png' in line 1, which is not a file in"),
        ('{"file_name": "a/../1.png"}', "is not a file in"),
        ('{"file_name": ".hidden.png"}', "is not a file in"),
        ('\n{"file_name": 3}', "names 3 in line 2"),
        ('{"file_name": "1.png"}\n{"file_name": "1.png"}', "twice, again in line 2"),
        ('{"file_name": "1.png", "label": null}', "has None in line 1 of its column 'label'"),
        ('{"file_name": "1.png", "label": [1]}', r"has \[1\] in line 1"),
        ('{"file_name": "1.png", "label": 1}\n{"file_name": "2.png", "label": "a"}', "of one kind"),
        ('{"name": "1.png"}', "must have a column file_name; its columns are: name"),
        ("{", "cannot be read in line 1"),
        ("3", "cannot be read in line 1"),
        ("", "has no rows"),
    ],
)
def test_damaged_metadata_are_one_error(tmp_path, lines, message):
    put(tmp_path / "set", "1.png", "2.png", ".hidden.png")
    put(tmp_path, "1.png")
    (tmp_path / "set" / "metadata.jsonl").write_text(lines)
    with pytest.raises(UserError, match=message):
        opened(tmp_path / "set")


def test_metadata_of_other_formats_are_refused(tmp_path):
    put(tmp_path, "a/1.png")
    datasets.Dataset.from_dict({"file_name": ["a/1.png"]}).to_parquet(tmp_path / "metadata.parquet")
    with pytest.raises(UserError, match=r"metadata\.parquet is not read: convert it to metadata\.jsonl"):
        opened(tmp_path)
    (tmp_path / "metadata.parquet").unlink()
    for name in ("metadata.csv", "metadata.jsonl"):
        (tmp_path / name).write_text("file_name")
    with pytest.raises(UserError, match=r"both metadata\.jsonl and metadata\.csv"):
        opened(tmp_path)
    (tmp_path / "metadata.jsonl").unlink()
    for table, message in (
        ("file_name,label\n1.png,cat, big\n", r"has 3 values in line 2, but 2 columns: put .* double quotes"),
        ("file_name,label\n\n1.png\n", "has 1 values in line 3, but 2 columns"),
        ("file_name,label,label\n1.png,cat,dog\n", "several columns of one name .*: file_name, label, label"),
        ("file_name,label\n", "has no rows"),
        ("", "has no rows"),
    ):
        (tmp_path / "metadata.csv").write_text(table)
        with pytest.raises(UserError, match=message):
            opened(tmp_path)
    (tmp_path / "metadata.csv").write_bytes(b"file_name\n\xff.png\n")
    with pytest.raises(UserError, match="cannot be read"):
        read_metadata(tmp_path / "metadata.csv", set(), None)


@pytest.mark.parametrize(
    "options", [{"image_column": "x"}, {"label_column": "x"}, {"text_column": "x"}, {"split": "validation"}]
)
def test_keys_without_effect_are_refused(tmp_path, options):
    (name,) = options
    put(tmp_path, "a/1.png")
    for source in (str(tmp_path), "digits"):
        image_size = None if source == "digits" else 4
        with pytest.raises(
            UserError, match=rf"data\.{name} '\w+' has no effect on {source}, .*: leave it out"
        ):
            open_samples(DataConfig(source=source, image_size=image_size, **options), seed=0)
    (tmp_path / "text.txt").write_text("text")
    with pytest.raises(UserError, match=rf"data\.{name} '\w+' has no effect on .*text\.txt"):
        list(read_texts(DataConfig(source=str(tmp_path / "text.txt"), tokens=4, **options)))


def test_texts_have_splits_too(tmp_path):
    for name in ("train/1.txt", "train/deep/2.txt", "validation/3.txt", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    config = DataConfig(source=str(tmp_path), tokens=4)
    assert list(read_texts(config)) == ["train/1.txt", "train/deep/2.txt"]
    held_out = held_out_config(config, None, held_out_split(str(tmp_path), texts=True), None)
    assert list(read_texts(held_out)) == ["validation/3.txt"]
    (tmp_path / "main.txt").write_text("text")  # all files are texts, none of a split
    assert len(list(read_texts(config))) == 4 and held_out_split(str(tmp_path), texts=True) == "train"


def test_columns_that_may_hold_classes_are_named(tmp_path):
    image = {"path": None, "bytes": put(tmp_path, "1.png").joinpath("1.png").read_bytes()}
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = datasets.Dataset.from_dict({"image": [image] * 3, "label": [7, 5, 7]}, features=kinds)
    rows.save_to_disk(tmp_path / "saved")
    with pytest.raises(
        UserError, match=r"perhaps label: set data\.label_column to it, or to '' for no classes"
    ):
        opened(tmp_path / "saved")
    data = opened(tmp_path / "saved", label_column="label")
    assert data.label_names == ("5", "7") and data.labels.tolist() == [1, 0, 1]
    assert opened(tmp_path / "saved", label_column="").labels.tolist() == [0, 0, 0]
    with pytest.raises(UserError, match="a data set that was saved without splits"):
        opened(tmp_path / "saved", label_column="label", split="test")


def test_held_out_data_leave_out_keys_that_have_no_effect(tmp_path):
    put(tmp_path / "plain", "a/1.png")
    put(tmp_path / "splits", "train/a/1.png", "valid/a/2.png")
    config = DataConfig(source="somebody/set", split="train[:9]", image_column="x", label_column="y")
    held_out = held_out_config(config, str(tmp_path / "plain"), None, None)
    assert (held_out.split, held_out.image_column, held_out.label_column) == ("train", None, None)
    assert held_out_config(config, None, "test", None).image_column == "x"
    splits, plain = str(tmp_path / "splits"), str(tmp_path / "plain")
    assert held_out_split(plain, texts=False) == held_out_split("mnist", texts=False) == "train"
    assert held_out_split(splits, texts=False) == held_out_split("somebody/set", texts=False) == "validation"
    (tmp_path / "splits" / "docs").mkdir()
    (tmp_path / "splits" / "docs" / "README.md").write_text("documents are no class")
    assert held_out_split(splits, texts=False) == "validation"
    ours = DataConfig(source=splits, image_size=8, listed="list.txt")
    other = held_out_config(ours, splits, None, None)
    assert (other.split, other.listed, other.flip) == ("validation", None, False)


def test_metadata_with_an_unnamed_column_of_classes_are_refused(tmp_path):
    put(tmp_path, "1.png", "2.png")
    metadata(tmp_path, *({"file_name": f"{n}.png", "class": kind} for n, kind in ((1, "cat"), (2, ""))))
    with pytest.raises(
        UserError, match=r"perhaps class: set data.label_column to it, or to '' for no classes"
    ):
        opened(tmp_path)
    assert opened(tmp_path, label_column="").label_names == ("",)
