"""Clips from video files whose frames say their number: rates that vary, damage, short ones."""

from typing import Any

import av
import numpy as np
import pytest
import torch

from acdit.data.image_decoding import Unreadable
from acdit.data.video_decoding import check_video, decode_clip
from acdit.media.videos import read_frames
from tests.data.clip_files import FRAMES, damaged_files, level, numbers, shape, write


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
    return damaged_files(tmp_path)


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
