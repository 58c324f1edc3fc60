"""Messages about errors say their cause, and not one that is likely elsewhere."""

import errno
from pathlib import Path

import pytest
import torch
from PIL import Image

from acdit.cli.main import main
from acdit.media.pictures import opened_picture
from acdit.utils.errors import UserError
from acdit.utils.hub import loading
from acdit.utils.untrusted import reading

REAL = ["evaluate", "--model", "mnist", "--count", "10", "--data", "parts/test", "--real"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of pictures in two parts, none of which is held out for validation."""
    for part in ("train", "test"):
        (tmp_path / "parts" / part / "a").mkdir(parents=True)
        for number in range(40):
            picture = Image.effect_noise((32, 32), 60)
            picture.save(tmp_path / "parts" / part / "a" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["encode", "laptop-text"], "texts have no latents"),
        (
            ["train", "digits", "--data.tokenizer", "bpe.json"],
            "data.tokenizer is for text, not for images (data.tokens not set): leave it out",
        ),
        (
            ["train", "digits", "--data.frame_stride", "2"],
            "data.frame_stride is for video, not for images (data.frames not set): leave it out",
        ),
        ([*REAL, "moving-digits"], "--real moving-digits holds clips, but the samples are images"),
        ([*REAL, "parts"], "--real: name the folder of one part; the part of parts must be "),
    ],
)
def test_the_command_line(words, said, here, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error and "--split" not in error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_a_model_that_does_not_fit_into_memory_is_not_damaged(error):
    with pytest.raises(UserError, match=r"^xl cannot be read: it does not fit into memory$"), reading("xl"):
        raise error


def test_a_full_disk_is_no_matter_of_names():
    with (
        pytest.raises(UserError, match=r"^the judge cannot be loaded: .*No space left on device$"),
        loading("the judge", None),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_too_many_open_files_are_no_matter_of_a_picture(here):
    with pytest.raises(OSError, match="Too many open files"), opened_picture("parts/test/a/1.png"):
        raise OSError(errno.EMFILE, "Too many open files")


def test_a_file_of_a_later_version_says_so(here, monkeypatch, capsys):
    words = ["reference", "parts/test", "--size", "8", "--features", "pixels", "--out", "r.npz"]
    assert main(words) == 0
    monkeypatch.setattr("acdit.evaluation.stored_reference.FORMAT_VERSION", 0)
    before = Path("r.npz").read_bytes()
    assert main(words) == 2
    assert "update acdit" in capsys.readouterr().err and Path("r.npz").read_bytes() == before
