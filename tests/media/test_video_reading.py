"""Video files as players show them: names like URLs, cuts, late starts, oblong pixels."""

import contextlib
import socket
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.error import InvalidDataError
from PIL import Image

from acdit.data.image_decoding import Unreadable
from acdit.data.video_decoding import check_video, decode_clip
from acdit.media.video_opening import VideoError
from acdit.media.video_reading import VideoReader
from acdit.media.videos import read_frames, video_file
from acdit.utils.errors import UserError
from tests.data.clip_files import FRAMES, level, numbers, shape, write


def shown(images):
    """The numbers that frames say, see `level`."""
    return [round((np.asarray(image, float).mean() - 10) / 10) for image in images]


def encode(path, codec="libx264", container_format=None, **coding):
    """The frames of `write` in any container, at 10 a second."""
    with av.open(str(path), "w", format=container_format) as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.gop_size, stream.options = 5, coding
        for number in range(FRAMES):
            pixels = np.full((32, 48, 3), level(number), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def copy(source, path, seconds=0.0, first=0):
    """Copy the packets from `first` on, shifted in time, as `ffmpeg -c copy` does."""
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(source)) as before, av.open(str(path), "w", options=options) as after:
        stream = before.streams.video[0]
        target = after.add_stream_from_template(stream)
        for number, packet in enumerate(before.demux(stream)):
            if packet.dts is None or packet.pts is None or number < first:
                continue
            ticks = round(Fraction(seconds).limit_denominator(1000) / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts + ticks, packet.dts + ticks, target
            after.mux(packet)
    return path


def at_every_moment(path, expected):
    """Check clips from every position against the numbers of all frames."""
    clip = shape()
    count = len(expected) - clip.span + 1
    for source in (str(path), Path(path).read_bytes()):
        check_video(source, shape(frames=len(expected), short="skip"))
        for first in range(count):
            assert numbers(decode_clip(source, clip, (first + 0.5) / count)) == expected[first : first + 4]
        with pytest.raises(Unreadable, match=rf"has {len(expected)} frames, but a clip spans"):
            check_video(source, shape(frames=len(expected) + 1, short="skip"))
    assert shown(read_frames(Path(path))) == expected


NAMES = [
    "a:b.mp4",
    "concat:x|y.mp4",
    "file:c.mp4",
    "http:d.mp4",
    "%03d.gif",
    "-e.mp4",
    "ÿ [*]?.mp4",
    "sub:f/g.gif",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_a_path(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for path in (Path(name), tmp_path / name):
        with video_file(path, 10) as writer:
            for number in range(6):
                writer.add(Image.new("RGB", (32, 32), (level(number),) * 3))
        assert path.stat().st_size > 100 and shown(read_frames(path)) == [0, 1, 2, 3, 4, 5]
        assert numbers(decode_clip(str(path), shape(), 1.0)) == [2, 3, 4, 5]
        check_video(str(path), shape())
        path.unlink()


def test_a_playlist_opens_nothing(tmp_path):
    """Neither files beside it nor addresses."""
    encode(tmp_path / "real.ts", container_format="mpegts")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/real.ts"
        for target in ("real.ts", str(tmp_path / "real.ts"), f"file:{tmp_path / 'real.ts'}", address):
            playlists = {
                "a.ffconcat": f"ffconcat version 1.0\nfile '{target}'\n",
                "b.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2.4,\n{target}\n#EXT-X-ENDLIST\n",
                "c.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2.4,\n{target}\n#EXT-X-ENDLIST\n",
                "d.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
                "m=video 50000 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
            }
            for name, text in playlists.items():
                (tmp_path / name).write_text(text)
                with pytest.raises(UserError, match="cannot be read as video"):
                    read_frames(tmp_path / name)
                for source in (str(tmp_path / name), text.encode()):
                    with pytest.raises(Unreadable):
                        decode_clip(source, shape(), 0)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("seconds", [0.7, 0.5, 0.25])
@pytest.mark.parametrize("coding", [{}, {"bf": "0"}, {"x264-params": "open-gop=1:keyint=5:bframes=3"}])
def test_an_edit_list_hides_frames(tmp_path, seconds, coding):
    """A cut without encoding stores frames from the key frame before it."""
    whole = encode(tmp_path / "whole.mp4", **coding)
    path = copy(whole, tmp_path / "cut.mp4", seconds=-seconds)
    expected = [number for number in range(FRAMES) if number >= 10 * seconds]
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames > len(expected)  # what the header says
        assert len(list(container.decode(video=0))) == len(expected)
    at_every_moment(path, expected)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.h264", "libx264"),
        ("a.hevc", "libx265"),
        ("a.m4v", "mpeg4"),
        ("a.swf", "flv"),
        ("a.ts", "mpeg2video"),
    ],
)
def test_formats_that_cannot_seek_are_read_from_their_start(tmp_path, name, codec):
    formats = {"h264": "h264", "hevc": "hevc", "m4v": "m4v", "ts": "mpegts"}
    path = encode(tmp_path / name, codec, formats.get(name.split(".")[1]))
    at_every_moment(path, list(range(FRAMES)))


@pytest.mark.parametrize("suffix", ["flv", "mkv", "ts", "mp4"])
@pytest.mark.parametrize("seconds", [0.05, 100.0])
def test_a_video_may_start_late(tmp_path, suffix, seconds):
    whole = encode(tmp_path / "whole.mp4", bf="0")
    at_every_moment(copy(whole, tmp_path / f"late.{suffix}", seconds), list(range(FRAMES)))


@pytest.mark.parametrize(
    ("suffix", "coding"),
    [
        *((suffix, {"bf": "0"}) for suffix in ("flv", "mkv", "ts", "mp4")),
        *((suffix, {"x264-params": "open-gop=1:keyint=5:bframes=3"}) for suffix in ("flv", "mkv", "mp4")),
    ],
)
def test_a_recording_may_begin_between_key_frames(tmp_path, suffix, coding):
    """Frames whose references are missing cannot be decoded, and are no part of the video."""
    whole = encode(tmp_path / "whole.mp4", **coding)
    for first in (4, 5, 7):
        path = copy(whole, tmp_path / f"part-{first}.{suffix}", first=first)
        images = []
        with av.open(str(path)) as container:
            for packet in container.demux(video=0):
                with contextlib.suppress(InvalidDataError):
                    images += [frame.to_image() for frame in packet.decode()]
        expected = shown(images)
        assert 12 < len(expected) < FRAMES and expected == list(range(expected[0], FRAMES))
        at_every_moment(path, expected)


def test_an_avi_may_count_the_ticks_of_a_clock(tmp_path):
    """Of 1000 frames a second, as its header says, most are empty."""
    whole = write(tmp_path / "whole.mkv", times=[100 * number for number in range(FRAMES)], codec="mpeg4")
    path = copy(whole, tmp_path / "ticks.avi")
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames > 2000
    at_every_moment(path, list(range(FRAMES)))


def test_a_video_that_ends_before_its_first_clip_is_left_out(tmp_path):
    whole = write(tmp_path / "whole.avi", codec="mpeg4").read_bytes()
    chunks = [start for start in range(len(whole)) if whole[start : start + 4] == b"00dc"]
    (tmp_path / "cut.avi").write_bytes(whole[: chunks[12]])
    check_video(str(tmp_path / "cut.avi"), shape(frames=10, short="skip"))
    for short in ("skip", "loop"):
        with pytest.raises(Unreadable, match="ends before its first clip does"):
            check_video(str(tmp_path / "cut.avi"), shape(frames=20, short=short))
    with VideoReader(tmp_path / "cut.avi") as video, pytest.raises(VideoError, match="ends before frame"):
        list(video.frames(range(FRAMES)))


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize(("aspect", "size"), [("2:1", (128, 64)), ("1:2", (64, 128)), ("1:1", (64, 64))])
def test_pixels_that_are_not_square_are_stretched(tmp_path, codec, aspect, size):
    """The frame has a white centre: a quarter of its width and half of its height."""
    width, height = (int(value) for value in aspect.split(":"))
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[16:48, 24:40] = 255
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(width, height)
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    frame = read_frames(path, 1)[0]
    assert frame.size == size
    white = np.argwhere(np.asarray(frame.convert("L")) > 127)
    (top, left), (bottom, right) = white.min(0), white.max(0) + 1
    assert abs(right - left - size[0] / 4) <= 2 and abs(bottom - top - size[1] / 2) <= 2
    clip = decode_clip(str(path), shape(edge=64), 0)[0, 0]  # the central square of the display
    crop = np.argwhere(clip.numpy() > 0)
    (top, left), (bottom, right) = crop.min(0), crop.max(0) + 1
    scale = 64 / min(size)
    assert abs(right - left - scale * size[0] / 4) <= 2 and abs(bottom - top - scale * size[1] / 2) <= 2


def test_frames_that_are_too_narrow_are_refused(tmp_path):
    with av.open(str(tmp_path / "line.mkv"), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 512, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(30, 1)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(512, 64, "yuv420p")))
        container.mux(stream.encode())
    with pytest.raises(UserError, match="too narrow"):
        read_frames(tmp_path / "line.mkv")
    with pytest.raises(Unreadable, match="too narrow"):
        decode_clip(str(tmp_path / "line.mkv"), shape(), 0)
