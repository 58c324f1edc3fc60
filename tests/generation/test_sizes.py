"""What cannot fit in memory or on disk is refused at once, with an estimate."""

from types import SimpleNamespace

import pytest

from acdit.cli.main import main
from acdit.utils import resources
from acdit.utils.errors import UserError
from acdit.utils.resources import require_disk, require_memory, size
from tests.cli.text_model import saved_model
from tests.pipelines.small import build, network
from tests.pipelines.test_video import build as build_video


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--count", "999999999", "--out", "x.npz"],
            "images of 32x32 pixels need about 6.14 TB at x",
        ),
        (["--samples", "99999999"], "999,999,990 samples, 64 at once, need about"),
        (["--frames", "999999998", "--model", "moving-digits", "--out", "a.gif"], "of memory"),
        (["--samples", "99999999", "--model", "moving-digits", "--out", "a.gif"], "ask for fewer or shorter"),
        (["--prompt", "hi", "--samples", "99999999"], "99,999,999 samples, 64 at once, need about"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_huge_requests_are_refused(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", *words]) == 2
    err = capsys.readouterr().err
    assert said in err and "are free" in err and err.count("\n") == 1 and "--batch" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", ["image", "text", "video"])
def test_a_smaller_batch_is_advised_only_where_it_fits(model, tmp_path, monkeypatch, capsys):
    """Clips are one batch whatever --batch says; finished texts are not kept while a file is written."""
    monkeypatch.chdir(tmp_path)
    if model == "text":
        words, files = ["sample", "--model", saved_model("model"), "--samples", "16"], ["--out", "a.txt"]
    elif model == "image":
        build(network(4)).save_pretrained("model")
        words, files = ["sample", "--model", "model", "--labels", "0", "--samples", "16"], ["--out", "a.png"]
    else:
        build_video().save_pretrained("model")
        words, files = ["sample", "--model", "model", "--labels", "0", "--samples", "16"], ["--out", "a.gif"]
    memory = SimpleNamespace(available=60_000)
    monkeypatch.setattr(resources.psutil, "virtual_memory", lambda: memory)
    assert main([*words, *files]) == 2
    err = capsys.readouterr().err
    assert "16 samples, 16 at once, need about" in err and err.count("\n") == 1
    assert ("or lower --batch" in err) == (model != "video")
    if model != "video":
        assert main([*words, *files, "--batch", "1"]) == 0
        assert (tmp_path / files[1]).exists()
    memory.available = 1000
    assert main([*words, *files]) == 2
    err = capsys.readouterr().err
    assert err.endswith("ask for fewer or shorter ones\n")


def test_what_fits_is_not_refused(tmp_path, monkeypatch):
    memory = type("Memory", (), {"available": 10**9})
    monkeypatch.setattr(resources.psutil, "virtual_memory", lambda: memory)
    require_memory(10**9, "all of it", "less")
    with pytest.raises(UserError, match=r"more need about 1 GB of memory, but 1 GB are free: less"):
        require_memory(10**9 + 1, "more", "less")
    require_disk(0, tmp_path / "not" / "there", "nothing", "less")
    with pytest.raises(UserError, match=r"much need about 1,000 TB at .*: less"):
        require_disk(1e15, tmp_path / "not" / "there", "much", "less")


def test_sizes_in_words():
    assert [size(value) for value in (0, 1500, 2.5e6, 1e9, 1.5e12, 3e15)] == [
        *("0 kB", "1.5 kB", "2.5 MB", "1 GB", "1.5 TB", "3,000 TB")
    ]
