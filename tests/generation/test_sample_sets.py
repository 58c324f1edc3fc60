"""Sets of samples: drawn in parts, gone on with, and joined into what evaluators read."""

import json
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from acdit.cli.main import main
from acdit.pipelines.loading import load_pipeline
from acdit.utils.errors import UserError
from tests.generation.small_sets import begun, files
from tests.pipelines.small import latents_of, seeded
from tests.tiny import relative_error

ROOT = Path(__file__).parents[2]


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the values of two uint8 arrays that are within one level."""
    assert a.shape == b.shape
    return float((np.abs(a.astype(int) - b.astype(int)) <= 1).mean())


def labels_of(path: Path) -> list[int]:
    with np.load(path) as held:
        return held["arr_1"].tolist()


def images_of(path: Path) -> np.ndarray:
    with np.load(path) as held:
        return held["arr_0"]


@pytest.mark.parametrize("model", ["grey", "colour", "latent", "unconditional"])
def test_the_npz_is_what_the_pipeline_draws_seed_by_seed(models, drawn, tmp_path, model, capsys):
    out = drawn("new/samples.npz", "--seed", "5", "--block", "2x1", model=model)
    assert "20 images" in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir()] == ["samples.npz"]
    with np.load(out) as held, zipfile.ZipFile(out) as archive:
        images, labels = held["arr_0"], held["arr_1"].tolist() if "arr_1" in held else None
        assert all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
    assert images.shape == (20, 8, 8, 3) and images.dtype == np.uint8 and images.std() > 10
    assert (labels is None) == (model == "unconditional")
    pipeline = load_pipeline(models[model])
    rows = [0, 1, 7, 8, 15, 16, 19]  # both ends of every part
    made = [
        pipeline(
            None if labels is None else labels[i],
            num_inference_steps=2,
            block=(2, 1),
            generator=seeded(5 + i),
        ).images[0]
        for i in rows
    ]
    assert agreement(images[rows], np.stack([np.asarray(image.convert("RGB")) for image in made])) >= 0.999


def test_labels_in_turn_or_each_from_its_seed(drawn):
    turns = labels_of(drawn("turns.npz", "--balanced"))
    assert turns == [i % 3 for i in range(20)]
    assert labels_of(drawn("some.npz", "--balanced", "--labels", "cow,0")) == [2, 0] * 10
    whole = drawn("own.npz", batch=50, count=99)
    own = labels_of(whole)
    assert min(own.count(label) for label in range(3)) > 20 and own != [i % 3 for i in range(99)]
    assert set(labels_of(drawn("two.npz", "--labels", "0,2"))) == {0, 2}
    later = drawn("later.npz", "--seed", "4", count=95)
    assert labels_of(later) == own[4:]
    assert agreement(images_of(later), images_of(whole)[4:]) >= 0.999


def test_a_folder_of_pngs_holds_the_images_of_the_npz(drawn):
    images, labels = (read(drawn()) for read in (images_of, labels_of))
    folder = drawn("pngs")
    names = [f"{i:06d}.png" for i in range(20)]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "labels.json", "settings.json"]
    assert json.loads((folder / "labels.json").read_text()) == dict(zip(names, labels, strict=True))
    for name, expected in zip(names, images, strict=True):
        with Image.open(folder / name) as picture:
            assert np.array_equal(np.asarray(picture), expected)


@pytest.mark.parametrize("out", ["stopped.npz", "stopped"])
def test_a_stopped_set_goes_on_to_the_bytes_of_an_undisturbed_one(models, drawn, tmp_path, out):
    half = begun(models["grey"], tmp_path / out)
    first = half.part(0).stat().st_ino
    assert sorted(path.name for path in half.folder.iterdir()) == [
        "000000.npy",
        "000002.npy",
        "settings.json",
    ]
    for stale in (half.folder / ".000001.npy.7.partial", tmp_path / f".{out}.7.partial"):
        stale.write_bytes(b"left by a process that was killed")
    half.part(2).unlink()
    half.draw(ranks=2)
    assert half.part(0).stat().st_ino == first  # not drawn again
    found, expected = drawn(out), drawn("undisturbed" + Path(out).suffix)
    if found.suffix:
        assert found.read_bytes() == expected.read_bytes()
    else:
        assert files(found) == files(expected)
    assert {path.name for path in tmp_path.iterdir()} == {found.name, expected.name}


def test_parts_that_are_there_are_not_drawn_again(models, drawn, tmp_path):
    half = begun(models["grey"], tmp_path / "samples.npz")
    half.write(2, np.full((4, 8, 8, 3), 7, np.uint8))
    images = images_of(drawn())
    assert (images[16:] == 7).all() and images[:16].std() > 10


def test_damaged_parts_are_drawn_again(models, drawn, tmp_path):
    half = begun(models["grey"], tmp_path / "damaged.npz")
    first = half.part(0)
    written = bytearray(first.read_bytes())
    written[500] ^= 1
    first.write_bytes(written)
    np.save(half.part(2), np.zeros((4, 8, 8, 3), np.uint8))  # a part of zeros, without its digest
    with pytest.raises(UserError, match="lacks 3 of 3 parts"):
        half.join()
    assert drawn("damaged.npz").read_bytes() == drawn("undisturbed.npz").read_bytes()


@pytest.mark.parametrize("out", ["samples.npz", "samples"])
def test_a_finished_set_is_not_drawn_again(models, drawn, capsys, out):
    done = drawn(out)
    before = done.stat().st_ino
    half = begun(models["grey"], done)  # as if it had been stopped while the parts were removed
    drawn(out)
    assert "already complete" in capsys.readouterr().out
    assert done.stat().st_ino == before and not half.folder.exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--model", "other", "weights was"),
        ("--seed", "1", "seed was 0 and is 1"),
        ("--count", "21", "count was 20 and is 21"),
        ("--batch", "7", "batch was 8 and is 7"),
        ("--steps", "3", "steps was [2, 2, 2, 2] and is [3, 3, 3, 3]"),
        ("--guidance", "2", "guidance was 1.5 and is 2.0"),
        ("--guidance-interval", "0,1", "guidance_interval was null and is [0.0, 1.0]"),
        ("--block", "4x4", 'block was "2x2" and is "4x4"'),
        ("--balanced", "true", "balanced was false and is true"),
        ("--labels", "0,2", "labels was null and is [0, 2]"),
        ("--dtype", "bfloat16", 'dtype was "float32" and is "bfloat16"'),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_another_command_is_refused_and_nothing_is_lost(
    models, drawn, tmp_path, capsys, option, value, said, finished
):
    out = tmp_path / "samples.npz"
    place = drawn().parent if finished else begun(models["grey"], out).folder
    before = files(place)
    asked = {"--model": models["grey"], "--count": "20", "--batch": "8", "--steps": "2", "--out": str(out)}
    asked[option] = models.get(value, value)
    assert main(["sample", *(word for pair in asked.items() for word in pair)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error and "another --out" in error
    assert files(place) == before
    if not finished:
        drawn()


def test_the_same_command_in_other_words_goes_on(models, drawn, tmp_path):
    begun(models["grey"], tmp_path / "samples.npz")
    drawn("samples.npz", "--guidance", "1.5", "--block", "2x2")


@pytest.mark.parametrize("out", ["samples.npz", "samples", "samples.npz.parts"])
def test_what_is_no_set_is_left_alone(models, tmp_path, capsys, out):
    stranger = tmp_path / out
    if out == "samples.npz":
        np.savez(stranger, mine=np.ones(3))
    else:
        stranger.mkdir()
        stranger = stranger / "mine.txt"
        stranger.write_text("mine")
    before = stranger.read_bytes()
    words = ["sample", "--model", models["grey"], "--count", "4", "--steps", "1"]
    assert main([*words, "--out", str(tmp_path / out.removesuffix(".parts"))]) == 2
    assert "is not a set of samples" in capsys.readouterr().err
    assert stranger.read_bytes() == before


def test_parts_that_are_missing_are_not_joined(models, tmp_path):
    half = begun(models["grey"], tmp_path / "samples.npz")
    with pytest.raises(UserError, match=r"lacks 1 of 3 parts, such as 000001\.npy"):
        half.join()


def test_classes_in_turn_need_classes(models, tmp_path, capsys):
    words = [
        "--model",
        models["unconditional"],
        "--count",
        "2",
        "--balanced",
        "--out",
        str(tmp_path / "a.npz"),
    ]
    assert main(["sample", *words]) == 2
    assert "this model has none" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_batch_changes_no_more_than_rounding(models, drawn):
    pipeline = load_pipeline(models["grey"])
    pipeline.set_progress_bar_config(disable=True)
    labels = [i % 3 for i in range(64)]
    whole = latents_of(pipeline, labels, generator=seeded(*range(64)))
    cut = [
        latents_of(pipeline, labels[i : i + 7], generator=seeded(*range(64)[i : i + 7]))
        for i in range(0, 64, 7)
    ]
    assert relative_error(torch.cat(cut), whole) < 1e-4
    sets = [images_of(drawn(f"{batch}.npz", batch=batch, count=64)) for batch in (7, 64)]
    assert agreement(*sets) >= 0.999


@pytest.mark.long
def test_killed_at_any_moment_or_drawn_by_two_ranks(models, tmp_path):
    """200 images: the same bytes after two kills, and the same up to rounding from two processes."""
    words = ["-m", "acdit", "sample", "--model", models["colour"], "--count", "200", "--batch", "8"]
    words += ["--steps", "10", "--balanced", "--out"]

    def start(launcher: list[str], name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, *launcher, *words, str(tmp_path / name)], cwd=ROOT)

    def parts() -> int:
        return len(list(tmp_path.glob("killed.npz.parts/[!.]*.npy")))

    assert start([], "undisturbed.npz").wait(600) == 0
    random = Random(0)
    for most in (12, 24):  # of 25 parts
        wanted = random.randint(max(1, parts() + 1), most)
        process = start([], "killed.npz")
        while parts() < wanted and process.poll() is None:
            time.sleep(0.001)
        time.sleep(random.random() / 50)
        process.send_signal(signal.SIGKILL)
        assert process.wait(600) == -signal.SIGKILL
        assert wanted <= parts() <= 25 and not (tmp_path / "killed.npz").exists()
    assert start([], "killed.npz").wait(600) == 0
    assert (tmp_path / "killed.npz").read_bytes() == (tmp_path / "undisturbed.npz").read_bytes()

    assert start(["-m", "torch.distributed.run", "--nproc_per_node", "2"], "ranks.npz").wait(600) == 0
    together, alone = tmp_path / "ranks.npz", tmp_path / "undisturbed.npz"
    assert labels_of(together) == labels_of(alone) == [i % 3 for i in range(200)]
    assert agreement(images_of(together), images_of(alone)) >= 0.999
    assert {path.name for path in tmp_path.iterdir()} == {"undisturbed.npz", "killed.npz", "ranks.npz"}


def test_a_set_that_an_earlier_version_began_is_finished(models, tmp_path, drawn):
    """Its settings hold keys that no set needs, in an order of their own."""
    half = begun(models["grey"], tmp_path / "samples.npz")
    settings = half.folder / "settings.json"
    stored = json.loads(settings.read_text())
    earlier = {"earlier": None} | dict(sorted(stored.items()))
    earlier.pop("prompt")
    settings.write_text(json.dumps(earlier))
    out = drawn("samples.npz")
    assert out.exists() and not half.folder.exists()
    with zipfile.ZipFile(out) as archive:
        assert list(json.loads(archive.comment)) == list(stored)
