"""Folders are scanned by one rule, whoever reads them: links, loops, hidden parts, pipes and odd names."""

import os
from pathlib import Path

import pytest
from PIL import Image

from acdit.data.class_folders import find_class_files
from acdit.data.config import DataConfig
from acdit.data.folders import file_inside, holds_tables, scan_folder, scan_top
from acdit.data.opening import open_samples
from acdit.data.summary import summary
from acdit.data.texts import read_texts
from acdit.training.inspection import counted_classes
from acdit.training.recipes import load_recipe
from acdit.utils.errors import UserError
from tests.permissions import as_nobody, protected_places
from tests.processes import on_ranks


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name, "PNG")
    return folder


def scanned(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in scan_folder(folder).files]


def opened(folder: Path, **options):
    return open_samples(DataConfig(source=str(folder), image_size=4, **options), seed=0)


def label_counts(folder: Path, **options) -> dict[str, int]:
    data = opened(folder, **options)
    counts = data.labels.bincount(minlength=len(data.label_names)).tolist()
    return dict(zip(data.label_names, counts, strict=True))


def test_hidden_parts_are_left_out_at_every_depth(tmp_path):
    names = ["b.png", ".c.png", "d/.e/f.png", "d/g/.h.png", "d/g/h.png", ".i/j/k.png", "é/ü 1.png"]
    assert scanned(put(tmp_path, *names)) == ["b.png", "d/g/h.png", "é/ü 1.png"]


def test_the_order_is_that_of_sorted_paths(tmp_path):
    names = ["a-b/1.png", "a/2.png", "a.png", "a/b/1.png", "a/10.png", "A/1.png"]
    put(tmp_path, *names)
    assert scan_folder(tmp_path).files == sorted(tmp_path / name for name in names)


def test_a_linked_folder_is_read_once_and_loops_end(tmp_path):
    put(tmp_path / "far", "deep/1.png", "2.png")
    put(tmp_path / "near", "real/3.png", "sub/4.png")
    near = tmp_path / "near"
    (near / "a link").symlink_to(near / "real")  # its own path comes first, although it sorts later
    (near / "b").symlink_to(tmp_path / "far")
    (near / "c").symlink_to(tmp_path / "far")
    (near / "sub" / "up").symlink_to("..")
    (near / "sub" / "farther up").symlink_to(tmp_path)
    (tmp_path / "far" / "back").symlink_to(near)
    (near / "self").symlink_to("self")
    assert scanned(near) == ["b/2.png", "b/deep/1.png", "real/3.png", "sub/4.png"]
    left_out = {Path(path).relative_to(near).as_posix() for path in scan_folder(near).left_out}
    assert left_out == {"a link", "c", "sub/up", "sub/farther up", "b/back", "self"}


def test_each_class_may_link_to_the_same_folder(tmp_path):
    put(tmp_path / "pool", "1.png", "2.png")
    put(tmp_path / "set", "own/3.png")
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir()
        (tmp_path / "set" / name / "more").symlink_to(tmp_path / "pool")
    (tmp_path / "set" / "own" / "up").symlink_to("..")
    (tmp_path / "set" / "loop").symlink_to("..")
    assert label_counts(tmp_path / "set") == {"cat": 2, "dog": 2, "own": 1}
    left_out = opened(tmp_path / "set").skipped
    assert set(left_out) == {str(tmp_path / "set" / "own" / "up"), str(tmp_path / "set" / "loop")}


def test_a_source_inside_hidden_folders_or_behind_a_link_is_read(tmp_path):
    put(tmp_path / ".cache" / "set", "a/1.png")
    (tmp_path / "link").symlink_to(tmp_path / ".cache" / "set")
    assert label_counts(tmp_path / "link") == label_counts(tmp_path / ".cache" / "set") == {"a": 1}


def count_items(folder: str, kind: str) -> int:
    """The number of texts or pictures in a folder."""
    if kind == "text":
        return len(list(read_texts(DataConfig(source=folder, tokens=4))))
    return len(open_samples(DataConfig(source=folder, image_size=4), seed=0))


@pytest.mark.parametrize("kind", ["text", "image"])
def test_a_pipe_is_left_out_and_does_not_hang(tmp_path, kind):
    """In a process of its own, since a reader that opened the pipe would wait for ever."""
    if kind == "image":
        put(tmp_path, "a/1.png")
    else:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "1.txt").write_text("text")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    os.mkfifo(tmp_path / "loose.png")
    os.symlink(tmp_path / "loose.png", tmp_path / "a" / "linked.png")
    assert on_ranks(count_items, 1, str(tmp_path), kind) == [1]
    if kind == "image":
        reasons = opened(tmp_path).skipped
    else:
        config = DataConfig(source=str(tmp_path), tokens=8)
        reasons = open_samples(config, seed=0).skipped
        assert "1 text; 3 skipped, such as " in summary(open_samples(config, seed=0), "texts")
    assert reasons[str(tmp_path / "a" / "pipe.png")] == "is not a regular file"
    assert len(reasons) == 3


def test_a_source_that_is_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is not a data set"):
        opened(tmp_path / "pipe")
    with pytest.raises(UserError, match="is not a data set"):
        list(read_texts(DataConfig(source=str(tmp_path / "pipe"), tokens=4)))


def test_checkpoints_of_notebooks_are_not_learned_from(tmp_path):
    put(tmp_path, "a/1.png", "a/.ipynb_checkpoints/1-checkpoint.png", "b/2.png", ".thumbs/3.png")
    assert label_counts(tmp_path) == {"a": 1, "b": 1}


def test_names_that_are_not_utf_8_are_refused(tmp_path):
    put(tmp_path, "a/1.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/a/\xff.png")).touch()
    with pytest.raises(UserError, match=r"whose name is not UTF-8: rename it"):
        opened(tmp_path)


def test_a_folder_that_cannot_be_read_is_an_error():
    def message() -> str:
        try:
            return str(scan_folder(place))
        except UserError as error:
            return str(error)

    with protected_places() as place:
        (place / "secret").mkdir(mode=0)
        assert "secret cannot be read" in as_nobody(message)


def test_a_plan_counts_the_classes_that_training_has(tmp_path):
    put(tmp_path, "a/1.png", "a/.x/2.png", "b/c/3.png", "loose.png")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "readme.txt").write_text("a text")
    put(tmp_path / ".far", "4.png")
    (tmp_path / "d").symlink_to(tmp_path / ".far")
    (tmp_path / "e").symlink_to("..")
    listing = tmp_path / ".list.txt"
    listing.write_text("b/c/3.png\n")
    for listed, count in ((None, 3), (str(listing), 1)):
        recipe = load_recipe("digits", **{"data.source": str(tmp_path), "data.listed": listed})
        assert counted_classes(recipe) == count == len(label_counts(tmp_path, listed=listed))


def test_listed_paths_stay_in_the_folder(tmp_path):
    root = put(tmp_path / "set", "a/1.png", "a/.hidden/2.png", "b/3 4.png", ".c/5.png")
    put(tmp_path, "out/6.png")
    (root / "linked").symlink_to(tmp_path / "out")
    (root / "a" / "out.png").symlink_to(tmp_path / "out" / "6.png")
    (root / "a" / "in.png").symlink_to(root / "b" / "3 4.png")
    os.mkfifo(root / "a" / "pipe")
    for name in ("a/1.png", "a/in.png", "b/3 4.png", "./a/1.png"):
        assert file_inside(root, name) == root / name
    refused = ["../out/6.png", "a/../../out/6.png", "a/../a/1.png", str(root / "a/1.png"), "linked/6.png"]
    refused += ["a/out.png", "a/.hidden/2.png", ".c/5.png", "a/pipe", "a/none.png", "a", "1.png"]
    listing = tmp_path / "list.txt"
    for name in refused:
        assert file_inside(root, name) is None
        listing.write_text(f"a/1.png 1\n{name} 2\n")
        with pytest.raises(UserError, match="which is not a file CLASS/FILE in"):
            opened(root, listed=str(listing))
    listing.write_text("\ufeffb/3 4.png 2\r\n./a/in.png 1\n", "utf-8")
    assert label_counts(root, listed=str(listing)) == {"a": 1, "b": 1}


def test_a_file_that_is_listed_twice_is_refused(tmp_path):
    """Its copies could be divided into training and held-out files."""
    folder = put(tmp_path / "data", "cat/1.png", "dog/2.png")
    (tmp_path / "list.txt").write_text("cat/1.png\ndog/2.png 2\ncat/1.png 1\n")
    with pytest.raises(UserError, match=r"lists 'cat/1\.png' twice: list it once"):
        opened(folder, listed=str(tmp_path / "list.txt"))


def test_the_top_of_a_folder(tmp_path):
    put(tmp_path, "b/1.png", "a/2.png", "loose.png", ".x/3.png")
    (tmp_path / "up").symlink_to("..")
    (tmp_path / "broken").symlink_to("nowhere")
    folders, (files, left_out) = scan_top(tmp_path)
    assert [path.name for path in folders] == ["a", "b"] and [path.name for path in files] == ["loose.png"]
    assert left_out == {
        str(tmp_path / "up"): "is a link to a folder that contains it",
        str(tmp_path / "broken"): "is a link that leads to no file",
    }
    assert find_class_files(DataConfig(source=str(tmp_path))).classes == ("a", "b")


def test_files_that_would_not_be_read_beside_tables_are_refused(tmp_path):
    """`datasets` reads the files of one type, and leaves out the others without a word."""
    folder = put(tmp_path / "set", "cat/siamese/1.png", "dog/2.png")
    (folder / "index.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"it holds index\.parquet, and cat/siamese/1\.png would not be read"):
        opened(folder)
    with pytest.raises(UserError, match=r"would not be read: move one of the two kinds to another folder"):
        list(read_texts(DataConfig(source=str(folder))))
    for name in ("rows.json", "notes.txt", "more.jsonl"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.parquet").write_bytes(b"PAR1")
        (tmp_path / name / name).write_text("[]")
        with pytest.raises(UserError, match=f"{name} would not be read"):
            holds_tables(tmp_path / name)
    (tmp_path / "tables").mkdir()
    for name in ("a.parquet", "README.md", "LICENSE", "dataset_infos.json", ".gitattributes"):
        (tmp_path / "tables" / name).write_bytes(b"PAR1")
    assert holds_tables(tmp_path / "tables")
