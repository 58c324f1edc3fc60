"""Animated and still pictures as videos: equal frames, durations, and pictures that are none."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from acdit.data.config import DataConfig
from acdit.data.image_decoding import Unreadable
from acdit.data.opening import open_samples
from acdit.data.video_decoding import check_video, decode_clip
from acdit.media.videos import read_frames, video_file
from acdit.utils.errors import UserError
from tests.data.clip_files import level, numbers, shape, write
from tests.media.test_video_reading import shown

REPEATS = [0, 0, 3, 3, 3, 1, 2, 2]


def grey(number):
    return Image.new("RGB", (32, 32), (level(number),) * 3)


@pytest.mark.parametrize("suffix", ["gif", "mp4"])
@pytest.mark.parametrize("rate", [1, 8, 24, 30, 50])
@pytest.mark.parametrize("sequence", [REPEATS, [4] * 5, [7]], ids=["some", "all", "one"])
def test_equal_frames_are_written_and_read(tmp_path, suffix, rate, sequence):
    path = tmp_path / f"clip.{suffix}"
    with video_file(path, rate) as writer:
        for number in sequence:
            writer.add(grey(number))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets: list[Any] = [packet for packet in container.demux(stream) if packet.size]
        assert len(packets) == len(sequence)
        ends = [float((packet.pts + packet.duration) * packet.time_base) for packet in packets]
    # the last frame too is shown for its time; GIF counts hundredths of a second
    assert max(ends) == pytest.approx(len(sequence) / rate, abs=0.0051 if suffix == "gif" else 1e-6)
    assert shown(read_frames(path)) == sequence
    if len(sequence) > 4:
        assert numbers(decode_clip(str(path), shape(), 1.0)) == sequence[-4:]
    if suffix == "gif":
        with Image.open(path) as opened:
            picture: Any = opened  # only formats of several frames have `n_frames`
            assert picture.n_frames == len(sequence)
            for index, number in enumerate(sequence):
                picture.seek(index)
                assert np.abs(np.asarray(picture.convert("RGB"), int) - level(number)).max() <= 1


def test_a_gif_stores_what_changes(tmp_path):
    """Frames are exact, and smaller than whole ones."""
    still = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8) // 8 * 8
    sizes = []
    for step in (0, 4):
        frames = []
        for index in range(8):
            pixels = still.copy()
            pixels[8:16, 8 + step * index : 16 + step * index] = 255
            frames.append(Image.fromarray(pixels).convert("RGB"))
        with video_file(tmp_path / f"{step}.gif", 10) as writer:
            for frame in frames:
                writer.add(frame)
        sizes.append((tmp_path / f"{step}.gif").stat().st_size)
        for before, after in zip(frames, read_frames(tmp_path / f"{step}.gif"), strict=True):
            assert np.array_equal(np.asarray(before), np.asarray(after))
    assert sizes[0] < sizes[1] < 8 * sizes[0] / 2


@pytest.mark.parametrize("suffix", ["gif", "png"])
@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        ([100, 200, 100], [0, 1, 1, 2]),
        ([100, 100, 300], [0, 1, 2, 2, 2]),
        ([30, 40, 30, 30, 70, 30, 40, 30], [0, 1, 2, 3, 4, 4, 5, 6, 7]),  # 30 a second, the fifth twice
        ([40, 40, 50, 40], [0, 1, 2, 3]),  # 24 a second
        ([500, 500], [0, 1]),
    ],
)
def test_a_picture_that_is_shown_longer_is_several_frames(tmp_path, suffix, durations, expected):
    first, *others = [grey(number) for number in range(len(durations))]
    path = tmp_path / f"merged.{suffix}"
    first.save(path, save_all=True, append_images=others, duration=durations)
    assert shown(read_frames(path)) == expected
    count = len(expected)
    assert numbers(decode_clip(str(path), shape(frames=count, short="skip"), 0)) == expected
    for index in range(count):  # found in any order
        moment = (index + 0.5) / count
        assert numbers(decode_clip(str(path), shape(frames=1), moment)) == [expected[index]]
    with pytest.raises(Unreadable, match=f"has {count} frames"):
        check_video(str(path), shape(frames=count + 1, short="skip"))


def test_an_animated_avif_is_a_video(tmp_path):
    """Its first stream is one picture."""
    first, *others = [grey(number) for number in range(6)]
    first.save(tmp_path / "moving.avif", save_all=True, append_images=others, duration=100, quality=100)
    assert shown(read_frames(tmp_path / "moving.avif")) == list(range(6))
    assert numbers(decode_clip(str(tmp_path / "moving.avif"), shape(), 1.0)) == [2, 3, 4, 5]


@pytest.fixture
def stills(tmp_path):
    """Pictures, and files whose only picture is a cover."""
    folder = tmp_path / "stills"
    folder.mkdir()
    for suffix in ("png", "jpg", "webp", "avif", "gif", "bmp", "tiff"):
        grey(5).save(folder / f"still.{suffix}")
    grey(5).save(
        folder / "still.apng", format="PNG", save_all=True, default_image=True, append_images=[grey(5)]
    )
    grey(5).save(folder / "picture.mp4", format="PNG")
    grey(5).save(folder / "equal.gif", save_all=True, append_images=[grey(5)] * 3, duration=100)  # merged
    write(folder / "one.mp4", range(1))
    write(folder / "one.mkv", range(1))
    for name, disposition in (("cover.mp4", Disposition.attached_pic), ("cover.mkv", Disposition.default)):
        with av.open(str(folder / name), "w") as container:
            sound = container.add_stream("aac", rate=8000, layout="mono")
            picture: Any = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuvj420p"
            picture.disposition = disposition
            silence: Any = np.zeros((1, 4096), np.float32)
            samples = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            samples.sample_rate = 8000
            container.mux(sound.encode(samples))
            container.mux(picture.encode(av.VideoFrame(64, 48, "yuvj420p")))
            container.mux(picture.encode())
            container.mux(sound.encode())
    return folder


@pytest.mark.parametrize("short", ["loop", "skip"])
def test_a_picture_is_no_video(stills, short):
    for path in sorted(stills.iterdir()):
        for source in (str(path), path.read_bytes()):
            with pytest.raises(Unreadable, match="holds no video"):
                check_video(source, shape(short=short))
            with pytest.raises(Unreadable, match="holds no video"):
                decode_clip(source, shape(short=short), 0)
    with pytest.raises(UserError, match="holds no video"):
        read_frames(stills / "still.png")


def test_pictures_in_a_folder_of_videos_are_named(stills):
    (stills.parent / "videos" / "cat").mkdir(parents=True)
    names = [path.name for path in stills.iterdir()]
    for name in names:
        (stills / name).rename(stills.parent / "videos" / "cat" / name)
    write(stills.parent / "videos" / "cat" / "real.mp4")
    data = open_samples(
        DataConfig(source=str(stills.parent / "videos"), frames=4, image_size=16, flip=False), seed=0
    )
    assert len(data) == 1
    assert sorted(Path(name).name for name in data.skipped) == sorted(names)
    assert all("holds no video" in reason for reason in data.skipped.values())
