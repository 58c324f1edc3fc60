"""Clips from video files whose frames say their number: rates that vary, damage, short ones, lists."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import datasets
import numpy as np
import pytest
import torch
from av.stream import Disposition
from PIL import Image

from acdit.cli.main import main
from acdit.data.config import DataConfig
from acdit.data.image_decoding import Unreadable
from acdit.data.opening import open_samples
from acdit.data.video_decoding import ClipShape, check_video, decode_clip
from acdit.media.videos import read_frames
from acdit.utils.errors import UserError
from tests.pipelines.small import small_autoencoder

FRAMES = 24


def level(number: int) -> int:
    """The grey of a frame, which says its number."""
    return 10 * number + 10


def numbers(clip: torch.Tensor) -> list[int]:
    """The frames that a clip (C, F, edge, edge) shows."""
    return [round(((grey + 1) * 127.5 - 10).item() / 10) for grey in clip.mean((0, 2, 3))]


def write(path, shown=range(FRAMES), size=(32, 48), times=None, codec="libx264"):
    """A video of grey frames at 10 a second, or at these times in milliseconds."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv444p" if size[0] % 2 else "yuv420p"
        stream.codec_context.gop_size = 5
        if times is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for place, number in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), level(number), np.uint8), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[place], stream.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shape(frames=4, stride=1, short: Literal["loop", "skip"] = "loop", edge=16, channels=3):
    return ClipShape(frames, stride, short, edge, channels)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return str(write(tmp_path_factory.mktemp("video") / "plain.mp4"))


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
@pytest.mark.parametrize("stride", [1, 3])
def test_frames_are_those_of_the_moment(tmp_path, suffix, stride):
    path = str(write(tmp_path / f"clip.{suffix}", codec="mpeg4" if suffix == "avi" else "libx264"))
    clip = shape(stride=stride)
    last = FRAMES - clip.span
    for moment, first in ((0.0, 0), (0.5, (last + 1) // 2), (0.999, last), (1.0, last)):
        expected = [first + stride * place for place in range(4)]
        made = decode_clip(path, clip, moment)
        assert made.shape == (3, 4, 16, 16) and made.dtype == torch.float32
        assert numbers(made) == expected
    with open(path, "rb") as file:
        assert torch.equal(decode_clip(file.read(), clip, 1.0), made)
    assert decode_clip(path, shape(channels=1), 0).shape == (1, 4, 16, 16)


ENCODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "mpeg2 in a transport stream": ("mpeg2video", {"format": "mpegts"}),
    "h264 in a transport stream": ("libx264", {"format": "mpegts"}),
    "fragments": ("libx264", {"options": {"movflags": "frag_keyframe+empty_moov"}}),
    "frames between others": ("mpeg4", {"between": 2}),
    "open groups": ("libx264", {"coding": {"x264-params": "open-gop=1:keyint=5:bframes=3"}}),
    "AVI with frames between others": ("mpeg4", {"format": "avi", "between": 2}),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_where_searches_land_late_the_frames_are_the_same(tmp_path, name):
    """At every moment those of the whole file decoded from its beginning."""
    codec, how = ENCODINGS[name]
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w", format=how.get("format"), options=how.get("options", {})) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.height = stream.width = 32
        stream.pix_fmt, stream.options = "yuv420p", how.get("coding", {})
        stream.codec_context.gop_size = 5
        if "between" in how:
            stream.codec_context.max_b_frames = how["between"]
        for number in range(FRAMES):
            pixels = np.full((32, 32, 3), level(number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    clip = shape(edge=32)
    every = np.stack([np.asarray(frame, np.float32) for frame in read_frames(path)])
    assert len(every) == FRAMES
    for first in range(FRAMES - clip.span + 1):
        found = decode_clip(str(path), clip, (first + 0.5) / (FRAMES - clip.span + 1))
        expected = torch.from_numpy(every[first : first + 4]).permute(3, 0, 1, 2) / 127.5 - 1
        assert torch.equal(found, expected), first


def test_sound_that_is_longer_makes_no_frames(tmp_path):
    path = str(tmp_path / "sound.mkv")
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        sound: Any = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number in range(FRAMES):
            pixels = np.full((32, 32, 3), level(number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 5 * 8000), np.int16), format="s16", layout="mono")
        samples.sample_rate = 8000
        container.mux(sound.encode(samples))
        container.mux(sound.encode())
    assert numbers(decode_clip(path, shape(), 1.0)) == [20, 21, 22, 23]
    with pytest.raises(Unreadable, match="has 24 frames, but a clip spans 25"):
        decode_clip(path, shape(frames=25, short="skip"), 0)


def test_every_first_frame_is_as_likely(video):
    firsts = [numbers(decode_clip(video, shape(frames=21), moment / 40))[0] for moment in range(40)]
    assert [firsts.count(first) for first in range(4)] == [10, 10, 10, 10]


def test_a_rate_that_varies_is_taken_by_time(tmp_path):
    """The first half at 20 frames a second, the second at 5: in time the clip runs evenly."""
    times = [50 * number for number in range(12)] + [600 + 200 * number for number in range(12)]
    path = str(write(tmp_path / "vfr.mkv", times=times))
    rate, length = 10, 29  # what the file says: 2.9 seconds at 10 a second
    for moment in (0.0, 0.5, 1.0):
        clip = shape(frames=5, stride=4)
        first = min(int(moment * (length - clip.span + 1)), length - clip.span)
        asked = [(first + 4 * place) / rate * 1000 for place in range(5)]
        found = numbers(decode_clip(path, clip, moment))
        for when, number in zip(asked, found, strict=True):
            until = times[number + 1] if number + 1 < FRAMES else times[-1] + 300
            assert times[number] - 500 / rate <= when <= until + 1  # shown then, half a frame early at most


def test_a_file_that_names_no_rate_is_taken_by_time(tmp_path):
    """Browsers record such files: the rate that FFmpeg guesses is that of the clock, a thousand a second."""
    path = write(tmp_path / "recorded.mkv", times=[33 * number + 7 * number % 12 for number in range(FRAMES)])
    content = bytearray(path.read_bytes())
    start = content.index(b"\x23\xe3\x83")  # DefaultDuration, whose place an empty element takes
    length = content[start + 3] & 0x7F
    content[start : start + 4 + length] = bytes([0xEC, 0x80 | (2 + length)]) + bytes(2 + length)
    path.write_bytes(content)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate is None
    assert numbers(decode_clip(str(path), shape(frames=6), 0)) == [0, 1, 2, 3, 4, 5]
    assert numbers(decode_clip(str(path), shape(frames=6, stride=3), 1)) == [8, 11, 14, 17, 20, 23]
    with pytest.raises(Unreadable, match="has 24 frames, but a clip spans 25"):
        check_video(str(path), shape(frames=25, short="skip"))


def test_odd_sizes_are_cropped_in_the_middle(tmp_path):
    path = tmp_path / "odd.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 33, 51, "bgr0"
        pixels = np.zeros((33, 51, 3), np.uint8)
        pixels[:, 9:42] = 200  # the central square
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    clip = decode_clip(str(path), shape(), 0)
    assert clip[..., 1:-1].min() > 0.5


def test_short_videos_are_repeated_or_refused(tmp_path):
    path = str(write(tmp_path / "short.mp4", range(3)))
    assert numbers(decode_clip(path, shape(frames=7), 0.7)) == [0, 1, 2, 0, 1, 2, 0]
    assert numbers(decode_clip(path, shape(frames=4, stride=2), 0)) == [0, 2, 1, 0]
    times = [100 * number for number in range(4)] + [300 + 400 * number for number in range(1, 4)]
    path_of_pauses = str(write(tmp_path / "pauses.mkv", range(7), times=times))  # 10 a second, says the file
    found = numbers(decode_clip(path_of_pauses, shape(frames=20), 0))
    assert found == [0, 1, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 0, 1, 2, 3]
    for refuse in (check_video, lambda path, shape: decode_clip(path, shape, 0)):
        with pytest.raises(Unreadable, match="has 3 frames, but a clip spans 7"):
            refuse(path, shape(frames=4, stride=2, short="skip"))


@pytest.fixture
def damaged(tmp_path):
    """Files that are no videos, or not whole."""
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.avi").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("FFmpeg would draw this text, frame by frame\n" * 30)
    Image.new("RGB", (64, 48)).save(tmp_path / "still.jpg")
    for name, cover in (("sound.wav", False), ("song.mp4", True)):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("aac" if cover else "pcm_s16le", rate=8000, layout="mono")
            picture: Any = None
            if cover:
                picture = container.add_stream("mjpeg", rate=1)
                picture.width, picture.height, picture.pix_fmt = 64, 48, "yuvj420p"
                picture.disposition = Disposition.attached_pic
            sound: Any = np.zeros((1, 4096), np.float32 if cover else np.int16)
            samples = av.AudioFrame.from_ndarray(sound, format="fltp" if cover else "s16", layout="mono")
            samples.sample_rate = 8000
            container.mux(stream.encode(samples))
            if cover:
                black = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
                container.mux(picture.encode(black))
                container.mux(picture.encode())
            container.mux(stream.encode())
    whole = write(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "whole.mp4").unlink()
    with av.open(str(tmp_path / "none.mkv"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.height = stream.width = 32
        stream.pix_fmt = "yuv420p"
        container.start_encoding()  # a header, and nothing behind it
    return tmp_path


def test_what_is_no_video_is_told_before_training(damaged):
    for file, reason in {
        "text.mp4": "InvalidDataError",
        "empty.avi": "Error",
        "sound.wav": "holds no video",
        "song.mp4": "holds no video",
        "notes.txt": "holds no video",
        "still.jpg": "holds no video",
        "cut.mp4": "InvalidDataError",
        "none.mkv": "holds no frame",
    }.items():
        with pytest.raises(Unreadable, match=reason):
            check_video(str(damaged / file), shape())


def test_a_file_that_ends_before_its_header_says_is_named(tmp_path):
    data = write(tmp_path / "long.avi", codec="mpeg4").read_bytes()
    path = tmp_path / "cut.avi"
    chunks = [place for place in range(len(data)) if data[place : place + 4] == b"00dc"]
    path.write_bytes(data[: chunks[12]])
    check_video(str(path), shape())  # its beginning is good
    assert numbers(decode_clip(str(path), shape(), 0)) == [0, 1, 2, 3]
    with pytest.raises(Unreadable):
        decode_clip(str(path), shape(), 1.0)


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
