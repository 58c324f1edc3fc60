"""Folders and Hugging Face data sets of real, tiny, partly broken files."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from acdit.data.config import DataConfig
from acdit.data.dataset import PixelDataset
from acdit.data.opening import open_samples
from acdit.utils.errors import UserError

EDGE = 8


def pixels(seed: int) -> np.ndarray:
    """A picture of noise (H, W, 3), which differs from its mirror image."""
    return np.random.default_rng(seed).integers(0, 256, (EDGE, EDGE, 3), dtype=np.uint8)


def encoded(seed: int) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels(seed)).save(file, "PNG")
    return file.getvalue()


def scaled(seed: int) -> torch.Tensor:
    return torch.from_numpy(pixels(seed)).permute(2, 0, 1).float() / 255 * 2 - 1  # (3, H, W)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def opened(source: Path | str, seed: int = 0, **options) -> PixelDataset:
    options = {"image_size": EDGE, "flip": False} | options
    return open_samples(DataConfig(source=str(source), **options), seed=seed)


def check_pictures(dataset: PixelDataset, seeds: Sequence[int], labels: Sequence[int]) -> None:
    """The items are the pictures of these seeds with these labels."""
    assert len(dataset) == len(seeds)
    for index, (seed, label) in enumerate(zip(seeds, labels, strict=True)):
        item = dataset[0, index]
        torch.testing.assert_close(item["data"], scaled(seed))
        assert (item["label"], item["epoch"], item["index"]) == (label, 0, index)


# Folders


def test_sub_folders_are_classes(tmp_path):
    write(tmp_path, {"b/1.png": encoded(1), "a/2.png": encoded(2), "a/deeper/3.png": encoded(3), "a/.x": b""})
    dataset = opened(tmp_path)
    assert dataset.label_names == ("a", "b")
    assert (dataset.channels, dataset.size, dataset.skipped) == (3, (EDGE, EDGE), {})
    check_pictures(dataset, [2, 3, 1], [0, 0, 1])
    with pytest.raises(IndexError):
        dataset[0, 3]
    assert opened(tmp_path, channels=1)[0, 0]["data"].shape == (1, EDGE, EDGE)


def test_a_flat_folder_is_one_class_without_a_name(tmp_path):
    dataset = opened(write(tmp_path / "birds", {"2.png": encoded(2), "1.png": encoded(1)}))
    assert dataset.label_names == ("",)
    check_pictures(dataset, [1, 2], [0, 0])


def test_class_folders_may_be_links(tmp_path):
    write(tmp_path, {"far/1.png": encoded(1)})
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "linked").symlink_to(tmp_path / "far")
    dataset = opened(tmp_path / "near")
    assert dataset.label_names == ("linked",)
    check_pictures(dataset, [1], [0])


def test_what_is_no_image_is_skipped_and_named(tmp_path):
    files = {
        "a/1.png": encoded(1),
        "a/2.png": b"junk",
        "a/3.png": b"",
        "a/notes.txt": b"a text",
        "docs/x.txt": b"x",
    }
    write(tmp_path, files | {"loose.png": encoded(4)})
    (tmp_path / "a" / "gone.png").symlink_to(tmp_path / "nowhere")
    dataset = opened(tmp_path)
    assert dataset.label_names == ("a",)
    check_pictures(dataset, [1], [0])
    names = ["a/2.png", "a/3.png", "a/gone.png", "a/notes.txt", "docs/x.txt", "loose.png"]
    assert sorted(dataset.skipped) == [str(tmp_path / name) for name in names]
    assert dataset.skipped[str(tmp_path / "a/notes.txt")] == "not an image"
    assert dataset.skipped[str(tmp_path / "loose.png")] == "is not in a class folder"


@pytest.mark.parametrize("files", [{"c/.x": b""}, {"c/1.png": b"junk"}], ids=["empty", "damaged"])
def test_a_class_without_a_readable_image_is_an_error(tmp_path, files):
    """It would shift the numbers of the classes after it."""
    write(tmp_path, {"a/1.png": encoded(1), "d/1.png": encoded(2)} | files)
    with pytest.raises(UserError, match="classes without a readable image: c"):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["1.heic", "1.WMV", "1.bin", "1", "deep/é.jxl"])
def test_a_class_of_files_of_an_unknown_format_is_an_error(tmp_path, name):
    """Before training, and although the suffix is not known: it would shift the numbers of the others."""
    write(tmp_path, {"a/1.png": encoded(1), "d/1.png": encoded(2), f"b/{name}": b"unknown", "b/x.txt": b"x"})
    with pytest.raises(UserError, match=r"classes without a readable image: b; first problem: .*: not an im"):
        opened(tmp_path)


@pytest.fixture
def partly_cut(tmp_path) -> Path:
    """Five images, of which numbers 1, 2 and 4 have good headers and no more."""
    files = {f"{'ab'[seed > 2]}/{seed}.png": encoded(seed) for seed in range(5)}
    return write(tmp_path, files | {f"{'ab'[seed > 2]}/{seed}.png": encoded(seed)[:60] for seed in (1, 2, 4)})


@pytest.mark.parametrize("order", [range(5), [4, 2, 1, 3, 0]])
def test_the_next_good_image_takes_a_damaged_ones_place(partly_cut, order):
    dataset = opened(partly_cut)
    assert dataset.skipped == {}  # not known before reading
    for index in order:
        seed = [0, 3, 3, 3, 0][index]
        item = dataset[0, index]
        torch.testing.assert_close(item["data"], scaled(seed))
        assert (item["label"], item["index"]) == (int(seed > 2), index)
    assert sorted(dataset.skipped) == [str(partly_cut / name) for name in ("a/1.png", "a/2.png", "b/4.png")]
    assert all("runcated" in reason for reason in dataset.skipped.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of os.fork in a process with threads
def test_worker_processes_tell_what_they_skipped(partly_cut):
    dataset = opened(partly_cut)
    keys = [(0, index) for index in range(5)]
    items = list(DataLoader(dataset, batch_size=None, sampler=keys, num_workers=2))
    assert [int(item["index"]) for item in items] == list(range(5))
    torch.testing.assert_close(items[1]["data"], scaled(3))
    assert len(dataset.skipped) == 3


def test_nothing_but_damaged_images_is_an_error(tmp_path):
    dataset = opened(write(tmp_path, {f"{seed}.png": encoded(seed)[:60] for seed in range(3)}))
    with pytest.raises(UserError, match=r"none of the 3 images can be decoded; first problem: .*0\.png: "):
        dataset[0, 1]


def test_folders_without_images_are_errors(tmp_path):
    with pytest.raises(UserError, match=r"no readable image; first problem: .*1.png: not an image"):
        opened(write(tmp_path / "junk", {"1.png": b"junk"}))
    write(tmp_path / "hidden", {".DS_Store": b""})
    with pytest.raises(UserError, match=r"is empty"):
        opened(tmp_path / "hidden")
    for missing in (tmp_path / "missing", "./missing", "~/missing folder/of images", "a/b/c", "a.csv"):
        with pytest.raises(UserError, match=r"does not exist"):
            opened(missing)
    with pytest.raises(UserError, match=r"is a file"):
        opened(tmp_path / "junk" / "1.png")


def test_configuration_that_does_not_fit_is_an_error(tmp_path):
    folder = write(tmp_path, {"1.png": encoded(1)})
    for size in (None, 0):
        with pytest.raises(UserError, match=r"data.image_size must be"):
            opened(folder, image_size=size)
    with pytest.raises(UserError, match=r"no held-out part"):
        open_samples(DataConfig(source=str(folder), image_size=EDGE), seed=0, held_out=True)


# Mirroring


def mirrored(dataset: PixelDataset, epoch: int, index: int, seed: int) -> bool:
    """Whether the item is the mirrored picture; it must be that or the picture."""
    image = dataset[epoch, index]["data"]
    if torch.allclose(image, scaled(seed), atol=1e-6):
        return False
    torch.testing.assert_close(image, scaled(seed).flip(2))
    return True


def test_mirroring_is_a_function_of_seed_epoch_and_index(tmp_path):
    write(tmp_path, {f"{seed}.png": encoded(seed) for seed in range(8)})
    keys = [(epoch, index) for epoch in range(25) for index in range(8)]
    dataset = opened(tmp_path, flip=True)
    first = {key: mirrored(dataset, *key, seed=key[1]) for key in keys}
    assert 70 < sum(first.values()) < 130  # of 200: three standard deviations are 21
    again = opened(tmp_path, flip=True)
    torch.manual_seed(1)  # neither the global state nor the order of reading matters
    assert {key: mirrored(again, *key, seed=key[1]) for key in reversed(keys)} == first
    other = opened(tmp_path, flip=True, seed=1)
    assert {key: mirrored(other, *key, seed=key[1]) for key in keys} != first
    by_epoch = np.array([first[key] for key in keys]).reshape(25, 8)
    assert by_epoch.any(axis=0).all() and not by_epoch.all(axis=0).any()  # each index is mirrored at times
    assert by_epoch.any(axis=1).sum() > 15 and not (by_epoch == by_epoch[:, :1]).all()
    plain = opened(tmp_path)
    assert not any(mirrored(plain, *key, seed=key[1]) for key in keys)


# Hugging Face data sets

KINDS = datasets.ClassLabel(names=["cat", "dog"])


def table(**extra) -> datasets.Dataset:
    """Four pictures; the third is junk and the fourth missing."""
    cells = [{"bytes": encoded(0), "path": None}, {"bytes": encoded(1), "path": None}]
    cells += [{"bytes": b"junk", "path": None}, None]
    columns = {"picture": cells, "kind": [1, 0, 1, 0]} | {name: values for name, (values, _) in extra.items()}
    features = {"picture": datasets.Image(), "kind": KINDS} | {
        name: kind for name, (_, kind) in extra.items()
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.fixture
def saved(tmp_path):
    def save(rows: datasets.Dataset | datasets.DatasetDict) -> str:
        rows.save_to_disk(tmp_path / "saved")
        return str(tmp_path / "saved")

    return save


def test_a_saved_data_set_is_read_by_column_type(saved):
    dataset = opened(saved(table()))
    assert dataset.label_names == ("cat", "dog")
    assert len(dataset) == 4
    for index, (seed, label) in enumerate([(0, 1), (1, 0), (0, 1), (0, 1)]):
        item = dataset[3, index]
        torch.testing.assert_close(item["data"], scaled(seed))
        assert (item["label"], item["epoch"]) == (label, 3)
    assert dataset.skipped == {"row 2": "not an image", "row 3": "holds no image"}


def test_the_split_is_chosen(saved):
    source = saved(datasets.DatasetDict({"train": table(), "test": table().select([1])}))
    check_pictures(opened(source, split="test"), [1], [0])
    assert len(opened(source)) == 4
    with pytest.raises(UserError, match=r"data.split of .* must be one of train, test, not 'dev'"):
        opened(source, split="dev")


def test_a_folder_of_parquet_files_is_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    table().select([1, 0]).to_parquet(tmp_path / "set" / "train.parquet")
    dataset = opened(tmp_path / "set")
    assert dataset.label_names == ("cat", "dog")
    check_pictures(dataset, [1, 0], [0, 1])
    with pytest.raises(UserError, match=r"cannot be loaded: Unknown split"):
        opened(tmp_path / "set", split="dev")


def test_a_damaged_data_set_is_an_error(saved):
    source = saved(table())
    (Path(source) / "state.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot be loaded"):
        opened(source)


def test_a_name_that_cannot_exist_is_an_error():
    with pytest.raises(UserError, match=r"no such name! cannot be loaded"):
        opened("no such name!")


def test_labels_may_be_words_or_numbers(saved):
    words, numbers = datasets.Value("string"), datasets.Value("int64")
    source = saved(
        table(
            word=(["b", "a", "b", "c"], words),
            number=([10, 9, 9, 10], numbers),
            half=([0.5] * 4, datasets.Value("float32")),
        )
    )
    dataset = opened(source, label_column="word")
    assert dataset.label_names == ("a", "b", "c") and dataset.labels.tolist() == [1, 0, 1, 2]
    dataset = opened(source, label_column="number")
    assert dataset.label_names == ("9", "10") and dataset.labels.tolist() == [1, 0, 0, 1]
    with pytest.raises(UserError, match=r"data.label_column 'half' must hold classes, not .*float32"):
        opened(source, label_column="half")
    for dtype in ("string", "large_string"):
        numerals = table(year=(["2020", "10", "9", "10"], datasets.Value(dtype)))
        dataset = opened(saved(numerals), label_column="year")
        assert dataset.label_names == ("9", "10", "2020") and dataset.labels.tolist() == [2, 1, 0, 1]


def test_without_labels_there_is_one_class(saved):
    dataset = opened(saved(table().remove_columns("kind")))
    assert dataset.label_names == ("",) and dataset.labels.tolist() == [0] * 4


@pytest.mark.parametrize("missing", [None, -1])
def test_a_row_without_a_class_is_an_error(saved, missing):
    source = saved(table(other=([0, 1, missing, 1], KINDS)))
    with pytest.raises(UserError, match=f"data.label_column 'other' holds {missing} in row 2"):
        opened(source, label_column="other")


def test_wrong_and_ambiguous_columns_are_errors(saved):
    cells = [{"bytes": encoded(seed), "path": None} for seed in (5, 6, 7, 8)]
    number = datasets.Value("int64")
    sizes = [{"height": 8, "width": 8}] * 4, {"height": number, "width": number}
    numbers = [[1, 2]] * 4, datasets.List(number)
    source = saved(
        table(second=(cells, datasets.Image()), sort=([0] * 4, KINDS), size=sizes, numbers=numbers)
    )
    with pytest.raises(UserError, match=r"'image' is not a column; the columns are: picture, kind, second, "):
        opened(source, image_column="image")
    with pytest.raises(
        UserError, match=r"data.label_column 'class' is not a column; the columns are: picture, kind"
    ):
        opened(source, image_column="second", label_column="class")
    with pytest.raises(UserError, match=r"set data.image_column to one of picture, second"):
        opened(source)
    with pytest.raises(UserError, match=r"set data.label_column to one of kind, sort"):
        opened(source, image_column="second")
    for column in ("kind", "size", "numbers"):
        with pytest.raises(UserError, match=rf"data.image_column '{column}' must hold images, not \S"):
            opened(source, image_column=column)
    check_pictures(opened(source, image_column="second", label_column="kind"), [5, 6, 7, 8], [1, 0, 1, 0])


def test_a_data_set_without_images_is_an_error(saved):
    with pytest.raises(UserError, match=r"set data.image_column to one of kind"):
        opened(saved(table().remove_columns("picture")))


def test_a_data_set_without_rows_is_an_error(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    table().select([]).to_parquet(tmp_path / "set" / "train.parquet")
    with pytest.raises(UserError, match=r"cannot be loaded: Instruction .* corresponds to no data"):
        opened(tmp_path / "set")
    with pytest.raises(UserError, match=r"has no rows"):
        opened(saved(table().select([])))
