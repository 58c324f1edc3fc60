"""Writing: what is replaced, what is left alone, and one process at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from acdit.cli.main import main
from acdit.training.loop import EXPORTED, train
from acdit.utils.errors import UserError
from acdit.utils.files import (
    LONGEST_NAME,
    check_replaceable,
    check_writable,
    only_process,
    only_writer,
    whole,
)
from tests.training.small import small_recipe
from tests.training.test_autoencoder import recipe_of


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old").touch()
    for name, target in (("folder", "target"), ("file", "elsewhere/file.txt")):
        (tmp_path / name).symlink_to(tmp_path / target)
    with whole(tmp_path / "folder") as temporary_path:
        temporary_path.mkdir()
        (temporary_path / "new").touch()
    with whole(tmp_path / "file") as temporary_path:
        temporary_path.write_text("text")
    assert (tmp_path / "folder").is_symlink() and (tmp_path / "file").is_symlink()
    assert os.listdir(tmp_path / "target") == ["new"]
    assert (tmp_path / "elsewhere" / "file.txt").read_text() == "text"
    (tmp_path / "nothing").symlink_to(tmp_path / "missing")
    with pytest.raises(UserError, match="link to nothing"):
        check_writable(tmp_path / "nothing" / "file")


def test_a_folder_with_files_of_the_user_is_not_replaced(tmp_path):
    folder = tmp_path / "pipeline"
    check_replaceable(folder, EXPORTED, "rest")
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").touch()
    (folder / "transformer" / "diffusion_pytorch_model-00001-of-00002.safetensors").touch()
    for name in ("pipeline.py", "transformer/network.py"):
        (folder / name).touch()
    check_replaceable(folder, EXPORTED, "rest")
    for name in ("notes.py", "notes.txt", "transformer/model_index.json", "model_index.json.bak"):
        (folder / name).touch()
        with pytest.raises(UserError, match=f"{name} in it was not written by acdit: rest"):
            check_replaceable(folder, EXPORTED, "rest")
        (folder / name).unlink()
    (folder / "config").symlink_to(tmp_path)
    with pytest.raises(UserError, match="config in it was not"):
        check_replaceable(folder, EXPORTED, "rest")


def test_conflicts_with_an_export_are_found_before_training(tmp_path):
    for place in ("pipeline", "elsewhere"):
        (tmp_path / "run" / place).mkdir(parents=True)
    mine = tmp_path / "run" / "pipeline" / "mine.txt"
    mine.write_text("mine")
    recipe = small_recipe(tmp_path / "run", training={"steps": 2})
    with pytest.raises(UserError, match=r"mine\.txt in it was not written by acdit"):
        train(recipe)
    assert mine.read_text() == "mine" and not (tmp_path / "run" / "checkpoints").exists()
    mine.unlink()
    mine.parent.rmdir()
    mine.parent.symlink_to(tmp_path / "run" / "elsewhere")
    train(recipe)
    train(recipe)  # replaces what it wrote
    assert mine.parent.is_symlink() and (tmp_path / "run" / "elsewhere" / "model_index.json").exists()


@pytest.mark.parametrize("name", ["pipeline", "checkpoints", "samples", "log.jsonl"])
def test_a_file_for_a_folder_or_a_folder_for_a_file_is_found_before_training(tmp_path, name):
    place = tmp_path / "run" / name
    place.parent.mkdir()
    if name == "log.jsonl":
        place.mkdir()
    else:
        place.touch()
    with pytest.raises(UserError, match=f"{name}.* cannot be written"):
        train(small_recipe(tmp_path / "run", training={"steps": 2}))
    assert [path.name for path in place.parent.iterdir()] == [name]


def test_commands_refuse_a_place_that_another_process_writes_to(tmp_path, capsys):
    """A command in another process holds the lock; it is free again once that process was killed."""
    held = [tmp_path / "run", tmp_path / "samples.npz", tmp_path / "bpe.json", tmp_path / "model"]
    code = (
        "import sys, time; from contextlib import ExitStack; from pathlib import Path\n"
        "from acdit.utils.files import only_process, only_writer\n"
        "stack = ExitStack(); stack.enter_context(only_process(Path(sys.argv[1]), 'a test'))\n"
        "for path in sys.argv[2:]: stack.enter_context(only_writer(Path(path), 'a test'))\n"
        "print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, *map(str, held)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        run, samples, tokenizer, model = map(str, held)
        for argv in (
            ["train", "digits", "--out", run],
            ["autoencoder", "mnist", "--data.source", "digits", "--out", run],
            ["encode", "digits", "--autoencoder.model", "none", "--autoencoder.latents", run],
            ["sample", "--count", "2", "--out", samples],
            ["tokenizer", "shakespeare", "--out", tokenizer],
            ["convert", "missing.pt", "--out", model],
        ):
            assert main(argv) == 2
            said = capsys.readouterr().err
            assert "is in use by another process" in said and "give another --" in said, argv
            assert said.count("\n") == 1
        process.kill()
    with only_process(held[0], "a test"):
        pass
    for path in held[1:]:
        with only_writer(path, "a test"):
            pass
    assert [path.name for path in tmp_path.iterdir()] in (["run"], [])


def test_the_export_of_an_autoencoder_replaces_its_own_files_alone(tmp_path):
    from acdit.training.autoencoder import train_autoencoder
    from tests.training.test_autoencoder import CPU

    (tmp_path / "run" / "vae").mkdir(parents=True)
    (tmp_path / "run" / "vae" / "notes.md").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.md in it was not written by acdit"):
        train_autoencoder(recipe_of(tmp_path / "run"), CPU)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("path", [".", "..", "folder/..", "/"])
def test_the_current_folder_and_those_above_are_no_place_to_write(path, tmp_path, monkeypatch, capsys):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    for refuse in (check_writable, lambda place: check_replaceable(place, EXPORTED, "rest")):
        with pytest.raises(UserError, match="it is the current folder, or one above; give the path"):
            refuse(Path(path))
    for work in (whole, lambda place: only_writer(place, "a test")):
        with pytest.raises(UserError, match="it is the current folder, or one above"), work(Path(path)):
            pass
    for words in (["sample", "--labels", "3"], ["convert", "missing.pt"], ["study", "report"]):
        assert main([*words, "--out", path]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not list((tmp_path / "folder").iterdir())


def test_a_name_for_which_there_is_no_temporary_name_is_refused(tmp_path):
    """Before the work: the name itself is valid, but the file appears under a longer one."""
    name = "數" * 80 + ".json"  # 245 bytes
    (tmp_path / name).touch()
    with pytest.raises(UserError, match="its name is longer than 225 bytes; shorten it"):
        check_writable(tmp_path / name)
    longest = tmp_path / ("a" * LONGEST_NAME)
    check_writable(longest)
    with whole(longest) as temporary_path:
        temporary_path.write_text("text")
    assert longest.read_text() == "text"
