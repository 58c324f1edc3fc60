"""`acdit reference`: statistics in a file, which `acdit evaluate` compares samples with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from acdit.cli.main import main
from acdit.evaluation.stored_reference import StoredReference

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with pictures, an .npz of samples, and files that are none."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    for index, row in enumerate(pixels[:10]):
        path = tmp_path / "pictures" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row).save(path)
    np.savez("samples.npz", pixels)
    np.savez("pickles.npz", np.array([{}], dtype=object))
    np.savez("floats.npz", pixels / 255)
    np.savez("statistics.npz", mu=np.full(192, np.nan), sigma=np.eye(192))
    np.savez("skewed.npz", mu=np.zeros(192), sigma=np.arange(192.0**2).reshape(192, 192))
    Path("truncated.npz").write_bytes(Path("samples.npz").read_bytes()[:-100])
    Path("empty").mkdir()
    Path("videos").mkdir()
    Path("videos/a.mp4").write_bytes(b"no picture")
    return tmp_path


def error(capsys, *words) -> str:
    """The one line of an error, after which nothing is left in the place of the output."""
    before = sorted(path.name for path in Path().iterdir())
    assert main(list(words)) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and text.startswith("acdit: error: ")
    assert sorted(path.name for path in Path().iterdir()) == before
    return text


def test_samples_are_compared_with_the_file(place, capsys):
    words = ["reference", "samples.npz", "--features", "pixels"]
    assert main([*words, "--count", "30", "--out", "new/a.npz"]) == 0
    assert "192 features pixels of 30 items of samples.npz" in capsys.readouterr().out
    assert len(StoredReference(Path("new/a.npz"))) == 30
    assert main([*words, "--with-features", "--out", "new/a.npz"]) == 0  # its own file
    score = ["evaluate", "--samples", "samples.npz", "--data", "new/a.npz", "--out", "scores.json"]
    assert main(score) == 0
    text = Path("scores.json").read_text()
    scores = {each["metric"]: each["value"] for each in scores_in(json.loads(text))}
    assert abs(scores["frechet_distance"]) < 1e-6 and scores["precision"] == 1
    assert os.listdir("new") == ["a.npz"]


def scores_in(value) -> list[dict]:
    """The scores anywhere in a JSON value."""
    if isinstance(value, dict):
        own = [value] if {"metric", "value"} <= value.keys() else []
        return own + [score for inner in value.values() for score in scores_in(inner)]
    return [score for inner in value for score in scores_in(inner)] if isinstance(value, list) else []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pickles.npz"], r"Python objects (pickles) in arr_0.npy, which are never loaded"),
        (["floats.npz"], "arr_0 must be uint8, with values 0 to 255"),
        (["truncated.npz"], "truncated.npz is damaged: "),
        (["statistics.npz"], "has no array arr_0 of pictures"),
        (["empty"], "empty is empty"),
        (["videos", "--size", "8"], "holds no readable image"),
        (["videos"], "a.mp4 cannot be read as a video"),
        (["none.npz"], "none.npz does not exist"),
        (["shakespeare"], "shakespeare holds texts"),
        (["samples.npz", "--count", "41"], "has 40 samples, so 41 of them cannot be taken"),
        (["samples.npz", "--count", "1"], "needs at least 2 samples"),
        (["samples.npz", "--size", "16"], "holds samples of 8x8 pixels, not 16x16"),
        (
            ["samples.npz", "--frames", "4"],
            "samples.npz is read as it is: leave it out",
        ),
        (["samples.npz", "--split", "train"], "has no split 'train'"),
        (["samples.npz", "--trust-features"], "--trust-features is for a program in --features"),
        (["samples.npz", "--features", "pixel"], "did you mean pixels?"),
        (["samples.npz", "--features", "clip-classifier"], "are for video, not for image"),
        (["samples.npz", "--features", "torchscript:a.pt"], "must be trusted"),
        (["samples.npz", "--out", "samples.npz"], "exists and is no file of acdit reference"),
        (["samples.npz", "--out", "a.txt"], "--out must be a .npz file"),
        ([], "reference needs real data"),
    ],
)
def test_one_line_says_what_is_wrong(place, capsys, words, message):
    named = [] if "--features" in words else ["--features", "pixels"]
    assert message in error(capsys, "reference", *words, *named)


def test_features_must_be_named(place, capsys):
    assert "reference needs --features" in error(capsys, "reference", "samples.npz")


def test_sizes_and_damage_are_named(place, capsys):
    Image.new("RGB", (9, 8)).save("pictures/b/9.png")
    words = ["reference", "pictures", "--features", "pixels"]
    text = error(capsys, *words)
    assert "pictures/a/0.png has 8x8" in text and "pictures/b/9.png has 8x9" in text
    Path("pictures/b/9.png").write_bytes(b"no picture")
    assert "pictures/b/9.png cannot be read as a picture" in error(capsys, *words)
    assert main([*words, "--size", "8"]) == 0
    assert "of 9 items of pictures; 1 skipped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("statistics.npz", "values in mu that are not finite"),
        ("skewed.npz", "sigma that is not symmetric"),
        ("other.npz", "version 0 instead of 1"),
        ("large.npz", "are of 16x16 pixels, but the samples of 8x8"),
    ],
)
def test_references_that_do_not_fit_are_refused(place, capsys, data, message):
    assert main(["reference", "samples.npz", "--features", "pixels", "--out", "other.npz"]) == 0
    content = Path("other.npz").read_bytes()
    Path("other.npz").write_bytes(content.replace(b'"version": "1"', b'"version": "0"'))
    Path("large.npz").write_bytes(content.replace(b'"shape": [3, 8, 8]', b'"shape": [3,16,16]'))
    capsys.readouterr()
    words = ["evaluate", "--samples", "samples.npz", "--features", "pixels", "--data", data]
    assert message in error(capsys, *words, "--out", "scores.json")


@pytest.mark.long
def test_two_ranks_write_the_file_of_one(place):
    words = [
        "reference",
        "pictures",
        "--size",
        "8",
        "--features",
        "pixels",
        "--batch",
        "3",
        "--with-features",
    ]
    assert main([*words, "--out", "one.npz"]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "acdit"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*launch, *words, "--out", "two.npz"], check=True, env=environment, timeout=300)
    with np.load("one.npz") as one, np.load("two.npz") as two:
        assert sorted(one) == sorted(two)
        for name in one:
            assert np.allclose(one[name], two[name], rtol=1e-5, atol=1e-7), name


def test_networks_of_images_know_their_own_file(place, capsys):
    words = ["--features", "efficientnet-lite0"]
    assert main(["reference", "pictures", *words, "--out", "net.npz"]) == 0
    assert main(["evaluate", "--samples", "samples.npz", "--data", "net.npz", "--out", "net.json"]) == 0
    (report,) = json.loads(Path("net.json").read_text())["reports"]
    info = StoredReference(Path("net.npz")).info
    assert info is not None and report["features"] == {"efficientnet-lite0": info.to_json()}
    assert info.pixels == "uint8" and "frechet_distance" in capsys.readouterr().out


def test_finished_samples_must_exist(place, capsys):
    said = error(capsys, "evaluate", "--samples", "none", "--data", "pictures")
    assert "--samples none does not exist: give an .npz file or a folder" in said


@pytest.mark.parametrize("words", ["--block 2x2", "--fast", "--vae-slicing", "--vae-tiling", "--steps 3"])
def test_options_of_models_are_refused_beside_finished_samples(words, place, capsys):
    said = error(capsys, "evaluate", "--samples", "samples.npz", "--data", "pictures", *words.split())
    assert f"{words.split()[0]} is for a model, but --samples samples.npz names finished samples" in said


@pytest.mark.parametrize("words", ["--frames 8", "--window 2", "--sinks 1", "--context-noise 0.1"])
def test_options_of_models_of_video_are_refused_beside_finished_clips(words, place, capsys):
    (place / "clips").mkdir()
    Image.new("L", (8, 8)).save(
        place / "clips" / "a.gif", save_all=True, append_images=[Image.new("L", (8, 8), 9)]
    )
    said = error(capsys, "evaluate", "--samples", "clips", "--data", "clips", *words.split())
    assert f"{words.split()[0]} is for a model, but --samples clips names finished samples" in said
