"""Files and folders appear whole or not at all, and only where they may be written."""

import os

import pytest
import torch
from safetensors.torch import save_file

from acdit.utils.errors import UserError
from acdit.utils.files import check_writable, only_process, only_writer, whole
from tests.permissions import as_nobody, protected_places
from tests.training.test_checkpoint import files


def test_whole_file(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole(path) as aside:
        aside.write_text("one")
        assert (
            not path.exists() and aside.parent == path.parent
        )  # a rename works within one file system alone
    assert path.read_text() == "one"
    with pytest.raises(RuntimeError, match="midway"), whole(path) as aside:
        aside.write_text("tw")
        raise RuntimeError("midway")
    assert path.read_text() == "one"
    with whole(path) as aside:
        aside.write_text("two")
    assert path.read_text() == "two" and os.listdir(path.parent) == ["a.txt"]


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    before = os.umask(0o027)
    try:
        with whole(tmp_path / "a") as aside:
            aside.mkdir()
            save_file({"x": torch.zeros(1)}, aside / "x.safetensors")
            assert (aside / "x.safetensors").stat().st_mode & 0o777 == 0o600  # or there is nothing to mend
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "x.safetensors").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o750


def test_whole_folder(tmp_path):
    path = tmp_path / "a"
    for name in ("one", "two"):
        with whole(path) as aside:
            (aside / "deep").mkdir(parents=True)
            (aside / "deep" / name).write_text(name)
            assert not path.exists() or files(path) == ["deep/one"]
        assert files(path) == [f"deep/{name}"]  # nothing of the old folder
    with pytest.raises(KeyboardInterrupt), whole(path) as aside:
        aside.mkdir()
        raise KeyboardInterrupt
    assert files(path) == ["deep/two"] and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("folder", [False, True])
def test_what_was_written_aside_is_renamed_not_copied(tmp_path, folder):
    """A copy could be seen, or left behind, half made."""
    with whole(tmp_path / "a") as aside:
        aside.mkdir() if folder else aside.write_text("one")
        written = aside.stat().st_ino
    assert (tmp_path / "a").stat().st_ino == written


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    """`--out results` where `results` is a folder must not cost the user that folder."""
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "precious").write_text("x")
    with pytest.raises(OSError), whole(tmp_path / "results") as aside:
        aside.write_text("a file")
    assert files(tmp_path) == ["results/precious"]


def test_check_writable_accepts_what_can_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in ("file", "new", "deep/er/new"):
        check_writable(tmp_path / path)
    assert os.listdir(tmp_path) == ["file"]


def test_check_writable_refuses_a_place_inside_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "new", tmp_path / "file" / "deep" / "new"):
        with pytest.raises(UserError, match="cannot be written") as caught:
            check_writable(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_check_writable_refuses_protected_places():
    def said(path):
        with pytest.raises(UserError) as caught:
            check_writable(path)
        return str(caught.value)

    with protected_places() as place:
        assert "write-protected" in as_nobody(lambda: said(place / "file"))
        assert "may write" in as_nobody(lambda: said(place / "folder" / "new"))


def test_one_process_at_a_time_writes_to_a_folder(tmp_path):
    with only_process(tmp_path / "run", "a training run"):
        refused = pytest.raises(UserError, match="in use by another process, a training run")
        with refused, only_process(tmp_path / "run", "a training run"):
            pass
        with only_process(tmp_path / "run", "a training run", main=False):
            (tmp_path / "run" / "file").touch()
    with only_process(tmp_path / "run", "a training run"):
        pass
    assert files(tmp_path) == ["run/file"]
    with pytest.raises(ZeroDivisionError), only_process(tmp_path / "failed", "a training run"):
        _ = 1 / 0
    assert not (tmp_path / "failed").exists()


@pytest.mark.parametrize("context", [whole, only_writer, only_process])
def test_folders_that_were_made_for_what_fails_are_removed(context, tmp_path):
    (tmp_path / "mine").mkdir()
    for place in (tmp_path / "new" / "newer" / "name", tmp_path / "mine" / "new" / "name"):
        rest = () if context is whole else ("a test",)
        with pytest.raises(ZeroDivisionError), context(place, *rest):
            _ = 1 / 0
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]
    with only_process(tmp_path / "new" / "run", "a test"), whole(tmp_path / "new" / "file") as temporary_path:
        temporary_path.touch()
    assert [path.name for path in tmp_path.rglob("*") if path.name != "mine"] == ["new", "file"]
