"""Clips from folders, lists and data sets of videos: classes, damaged and short ones, and training."""

import os
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from acdit.cli.main import main
from acdit.data.config import DataConfig
from acdit.data.opening import open_samples
from acdit.media.videos import read_frames
from acdit.utils.errors import UserError
from tests.data.clip_files import FRAMES, damaged_files, numbers, write
from tests.pipelines.small import small_autoencoder


@pytest.fixture
def damaged(tmp_path):
    return damaged_files(tmp_path)


@pytest.fixture
def folder(tmp_path):
    for name, count in (("cat", 3), ("dog", 2)):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number in range(count):
            write(tmp_path / "videos" / name / f"{number}.mp4")
    return tmp_path / "videos"


def opened(folder, **more):
    config = {"source": str(folder), "frames": 4, "image_size": 16, "flip": False}
    return open_samples(DataConfig(**(config | more)), seed=3)


def test_a_folder_of_classes(folder, damaged):
    (folder / "cat" / "broken.mp4").write_text("no video")
    data = opened(folder)
    assert len(data) == 5 and data.label_names == ("cat", "dog") and data.labels.tolist() == [0, 0, 0, 1, 1]
    assert data.size == (4, 16, 16) and data.channels == 3
    assert [file.rsplit("/", 1)[1] for file in data.skipped] == ["broken.mp4"]
    item = data[2, 4]
    assert item["data"].shape == (3, 4, 16, 16) and item["label"] == 1
    firsts = {numbers(data[epoch, 0]["data"])[0] for epoch in range(12)}
    assert len(firsts) > 5  # anywhere in training
    assert torch.equal(data[7, 1]["data"], opened(folder)[7, 1]["data"])
    assert numbers(data.read(0)[0]) == [10, 11, 12, 13]  # and always the middle else


def test_a_class_of_videos_that_cannot_be_read_is_an_error(folder):
    (folder / "bird").mkdir()
    (folder / "bird" / "1.wmv").write_bytes(b"unknown")
    with pytest.raises(UserError, match=r"classes without a readable video: bird; first problem: .*1\.wmv"):
        opened(folder)


def test_several_clips_of_each_video(folder):
    config = DataConfig(source=str(folder), frames=4, image_size=16, flip=False)
    data = open_samples(config, seed=3, clips=3)
    assert data.labels.tolist() == [0] * 9 + [1] * 6
    firsts = [numbers(data.decode(index))[0] for index in range(len(data))]
    assert firsts == 5 * [int(21 * moment) for moment in (1 / 6, 3 / 6, 5 / 6)]
    assert [numbers(data.read(index)[0])[0] for index in range(3)] == firsts[:3]


def test_mirror_images(folder):
    plain, mirrored = opened(folder), opened(folder, flip=True)
    found = [torch.equal(mirrored[epoch, 0]["data"], plain[epoch, 0]["data"].flip(-1)) for epoch in range(6)]
    assert all(
        torch.equal(mirrored[epoch, 0]["data"], plain[epoch, 0]["data"]) or found[epoch] for epoch in range(6)
    )


def test_damage_that_shows_late_is_counted_and_replaced(folder):
    path = folder / "cat" / "0.mp4"
    data = opened(folder)
    path.write_bytes(path.read_bytes()[:200])
    item = data[0, 0]
    assert item["label"] == 0 and data.damaged is not None
    assert torch.equal(data.damaged, torch.arange(5) == 0)
    assert list(data.skipped) == [str(path)]


def test_a_video_that_is_damaged_in_places_is_read_in_others(folder):
    """Whatever was found before: an item follows from its key alone."""
    whole = write(folder / "cat" / "0.avi", range(FRAMES)[::-1], codec="mpeg4")
    (folder / "cat" / "0.mp4").unlink()
    cut = whole.read_bytes()
    chunks = [place for place in range(len(cut)) if cut[place : place + 4] == b"00dc"]
    data: Any = opened(folder)
    whole.write_bytes(cut[: chunks[12]])
    late, _ = data.read_at(0, 1.0)
    assert (
        data.damaged is not None and data.damaged[0] and numbers(late) == [20, 21, 22, 23]
    )  # the next one's
    assert numbers(data.read_at(0, 0.0)[0]) == [23, 22, 21, 20]
    whole.unlink()
    assert numbers(data.read_at(0, 0.0)[0]) == [0, 1, 2, 3]  # the next one's again


def test_a_list_of_files(folder, tmp_path):
    listing = tmp_path / "trainlist01.txt"
    listing.write_text("cat/1.mp4 1\ndog/0.mp4 2\n\n")
    data = opened(folder, listed=str(listing))
    assert len(data) == 2 and data.label_names == ("cat", "dog")
    listing.write_text("cat/9.mp4 1\n")
    with pytest.raises(UserError, match=r"lists 'cat/9.mp4', which is not a file CLASS/FILE"):
        opened(folder, listed=str(listing))
    with pytest.raises(UserError, match="cannot be read"):
        opened(folder, listed=str(tmp_path / "none.txt"))
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match=r"pipe\.txt is a pipe"):
        opened(folder, listed=str(tmp_path / "pipe.txt"))


def test_a_data_set_of_videos(folder, tmp_path):
    files = [str(folder / "cat" / "0.mp4"), str(folder / "dog" / "1.mp4")]
    features = datasets.Features(
        {"clip": datasets.Video(decode=False), "kind": datasets.ClassLabel(names=["cat", "dog"])}
    )
    columns = {
        "clip": [{"bytes": Path(files[0]).read_bytes(), "path": None}, {"bytes": None, "path": files[1]}]
    }
    datasets.Dataset.from_dict(columns | {"kind": [0, 1]}, features=features).save_to_disk(tmp_path / "saved")
    data = opened(tmp_path / "saved")
    assert len(data) == 2 and data.label_names == ("cat", "dog")
    with pytest.raises(UserError, match=r"data\.listed is only for folders"):
        opened(tmp_path / "saved", listed="list.txt")
    for index in range(2):
        assert numbers(data.read(index)[0]) == [10, 11, 12, 13]


def test_short_videos_of_a_data_set_are_left_out(folder, tmp_path):
    short = write(tmp_path / "short.mp4", range(3))
    cells = [short.read_bytes(), (folder / "dog" / "1.mp4").read_bytes(), b"no video"]
    features = datasets.Features({"clip": datasets.Video(decode=False), "kind": datasets.Value("string")})
    columns = {"clip": [{"bytes": cell, "path": None} for cell in cells], "kind": ["cat", "dog", "cat"]}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "saved")
    data = opened(tmp_path / "saved", short_clips="skip", label_column="kind")
    assert len(data) == 1 and data.label_names == ("cat", "dog") and data.labels.tolist() == [1]
    assert data.skipped["row 0"] == "has 3 frames, but a clip spans 4" and "row 2" in data.skipped
    assert numbers(data.read(0)[0]) == [10, 11, 12, 13]
    with pytest.raises(UserError, match="holds no readable video; first problem: row 0: has 3 frames"):
        opened(tmp_path / "saved", short_clips="skip", frames=40)
    looped = opened(tmp_path / "saved")
    assert len(looped) == 3 and numbers(looped.read(0)[0]) == [0, 1, 2, 0]


def test_mistakes(folder, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.mp4").write_text("no video")
    with pytest.raises(UserError, match="holds no readable video; "):
        opened(tmp_path / "texts")
    with pytest.raises(UserError, match=r"data\.frame_stride must be at least 1"):
        DataConfig(frame_stride=0)
    with pytest.raises(UserError, match="image_size must be set for"):
        opened(folder, image_size=None)


def test_the_road_from_videos_to_videos(folder, tmp_path, monkeypatch, capsys):
    """Encode, train with validation and sample by three commands; and from pixels."""
    monkeypatch.chdir(tmp_path)
    small_autoencoder().save_pretrained("vae")
    network = ["--model.num_layers", "1", "--model.hidden_size", "32", "--model.num_heads", "2"]
    data = ["--data.source", str(folder), "--data.frames", "4", "--data.image_size", "16"]
    data += ["--data.channels", "3"]
    steps = ["--training.steps", "2", "--training.batch_size", "2"]
    latent = ["--layout.patch", "2", "--layout.blocks", "2x4x4", "--autoencoder.model", "vae", "--out", "run"]
    latent += ["--autoencoder.clips", "2"]
    recipe = ["moving-digits", *network, *data, *latent]
    assert main(["train", *recipe, *steps]) == 2  # there are no latents yet
    assert main(["encode", *recipe, "--data.source", "moving-digits", "--data.image_size", "32"]) == 2
    assert "autoencoder.clips is only for video files" in capsys.readouterr().err
    assert main(["encode", *recipe, "--batch", "3"]) == 0
    assert "latents of 10 clips" in capsys.readouterr().out
    held = ["--validation.every", "1", "--validation.source", str(folder), "--validation.images", "2"]
    assert main(["train", *recipe, *steps, *held]) == 0
    assert main(["sample", "--model", "run", "--labels", "dog", "--steps", "1", "--out", "dog.mp4"]) == 0
    frames = read_frames(Path("dog.mp4"))
    assert len(frames) == 4 and frames[0].size == (16, 16)
    pixels = ["--layout.patch", "4", "--layout.blocks", "2x4x4", "--out", "pixels"]
    assert main(["train", "moving-digits", *network, *data, *pixels, *steps]) == 0
