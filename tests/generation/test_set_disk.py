"""Sets of samples on a disk that is full, or has little room."""

import resource
from pathlib import Path
from types import SimpleNamespace

import pytest

from acdit.cli.main import main
from acdit.utils import resources
from tests.generation.small_sets import begun, files


@pytest.mark.parametrize("out", ["samples.npz", "samples"])
def test_parts_that_are_there_need_no_room(models, drawn, tmp_path, monkeypatch, capsys, out):
    """Twenty images take 3,840 bytes as parts and as many again as a file."""
    begun(models["grey"], tmp_path / out)  # parts 0 and 2 of 3
    free = SimpleNamespace(free=7_679)
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: free)
    command = ["sample", "--model", models["grey"], "--batch", "8", "--count", "20", "--steps", "2", "--out"]
    assert main([*command, str(tmp_path / f"other{Path(out).suffix}")]) == 2
    assert "20 images of 8x8 pixels need about 7.68 kB" in capsys.readouterr().err
    free.free = 4_500
    assert main([*command, str(tmp_path / out)]) == 2
    err = capsys.readouterr().err
    assert "beside their parts so far, need about" in err and err.endswith("make room\n")
    free.free = 5_400
    drawn(out)
    free.free = 0
    drawn(out)  # it is complete


@pytest.mark.parametrize("limit", [1000, 3000])  # bytes of a file: less than a part; less than the output
def test_a_full_disk_is_one_line_and_keeps_the_parts(models, drawn, tmp_path, capsys, limit):
    half = begun(models["grey"], tmp_path / "samples.npz")
    before = files(half.folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    words = ["--model", models["grey"], "--batch", "8", "--count", "20", "--steps", "2"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        code = main(["sample", *words, "--out", str(tmp_path / "samples.npz")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    error = capsys.readouterr().err
    assert "could not be written: File too large" in error and error.count("\n") == 1
    after = files(half.folder)
    assert before.items() <= after.items() and len(after) == (3 if limit == 1000 else 4)
    assert [path.name for path in tmp_path.iterdir()] == ["samples.npz.parts"]
    assert drawn().read_bytes() == drawn("undisturbed.npz").read_bytes()
