"""Video files: what is written reads back, by PyAV and Pillow; rotated and broken ones."""

import av
import numpy as np
import pytest
from PIL import GifImagePlugin, Image

from acdit.media.videos import contact_sheet, read_frames, side_by_side, video_file
from acdit.utils.errors import UserError


def moving(count=9, height=48, width=64):
    """Frames with a white square that moves on a ramp."""
    frames = []
    for index in range(count):
        pixels = np.tile(np.linspace(0, 200, width, dtype=np.uint8), (height, 1))[..., None].repeat(3, 2)
        pixels[8:24, 4 * index : 4 * index + 16] = 255
        frames.append(Image.fromarray(pixels))
    return frames


def difference(a, b):
    return np.abs(np.asarray(a, float) - np.asarray(b, float)).mean()


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (2, 2)])
def test_mp4_round_trip(tmp_path, height, width):
    frames = moving(9, height, width)
    path = tmp_path / "clip.mp4"
    with video_file(path, 12) as writer:
        for frame in frames:
            writer.add(frame)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.average_rate == 12
        assert (stream.height, stream.width) == (height + height % 2, width + width % 2)
    read = read_frames(path)
    assert len(read) == 9
    for before, after in zip(frames, read, strict=True):
        assert difference(before, after.crop((0, 0, width, height))) < 4
    if height > 2:
        assert difference(read[0], read[8]) > 8
    assert [left.name for left in tmp_path.iterdir()] == ["clip.mp4"]


def test_gif_round_trip(tmp_path):
    frames = moving()
    with video_file(tmp_path / "clip.gif", 10) as writer:
        for frame in frames:
            writer.add(frame)
    with Image.open(tmp_path / "clip.gif") as read:
        assert isinstance(read, GifImagePlugin.GifImageFile)
        assert read.n_frames == 9 and read.info["duration"] == 100 and read.info["loop"] == 0
        for index, frame in enumerate(frames):
            read.seek(index)
            assert difference(read.convert("RGB"), frame) < 4


@pytest.mark.parametrize("rate", [8, 24, 30, 50])
def test_a_gif_takes_its_time(tmp_path, rate):
    """Each frame ends within half a hundredth of a second of its time, all that the format can say."""
    with video_file(tmp_path / "clip.gif", rate) as writer:
        for frame in moving(11):
            writer.add(frame)
    passed = 0.0
    with Image.open(tmp_path / "clip.gif") as read:
        for index in range(11):
            read.seek(index)
            passed += read.info["duration"]
            assert abs(passed - 1000 * (index + 1) / rate) <= 5


def test_what_a_format_cannot_hold_is_said_in_a_line(tmp_path):
    too_fast = pytest.raises(UserError, match="at most 50 frames a second, not 60")
    with too_fast, video_file(tmp_path / "fast.gif", 60):
        pass
    too_wide = pytest.raises(
        UserError, match=r"exceeds the 16384 pixels per side that H\.264 allows; put fewer"
    )
    with too_wide, video_file(tmp_path / "wide.mp4", 10) as writer:
        writer.add(Image.new("RGB", (16_400, 8)))
    assert not list(tmp_path.iterdir())


def test_no_more_frames_are_read_than_are_asked_for(tmp_path):
    with video_file(tmp_path / "clip.mp4", 10) as writer:
        for frame in moving():
            writer.add(frame)
    assert [len(read_frames(tmp_path / "clip.mp4", most)) for most in (1, 4, 20)] == [1, 4, 9]


def test_nothing_is_left_where_writing_fails(tmp_path):
    for suffix in (".mp4", ".gif"):
        with pytest.raises(RuntimeError, match="broke"), video_file(tmp_path / f"clip{suffix}", 10) as writer:
            writer.add(moving(1)[0])
            raise RuntimeError("it broke")
        with pytest.raises(UserError, match="at least one frame"), video_file(tmp_path / f"no{suffix}", 10):
            pass
    with pytest.raises(UserError, match=r"must end in \.mp4 or \.gif"), video_file(tmp_path / "a.avi", 10):
        pass
    assert not list(tmp_path.iterdir())


def test_rotated_files_are_read_upright(tmp_path):
    """Phones store frames lying down, beside a matrix that says how to turn them."""
    frame = Image.new("RGB", (64, 48))
    frame.paste((255, 255, 255), (0, 0, 64, 8))  # a bar at the top
    with av.open(str(tmp_path / "lying.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    data = bytearray((tmp_path / "lying.mp4").read_bytes())
    place = data.index(b"tkhd")  # its matrix stands 40 bytes behind the name: make it a quarter turn
    quarter = [0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30]
    for index, value in enumerate(quarter):
        start = place + 44 + 4 * index
        data[start : start + 4] = value.to_bytes(4, "big", signed=True)
    (tmp_path / "upright.mp4").write_bytes(data)
    read = read_frames(tmp_path / "upright.mp4")
    assert len(read) == 3 and read[0].size == (48, 64)
    assert difference(read[0], frame.rotate(-90, expand=True)) < 4  # the matrix turns clockwise


def test_what_is_no_video(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(UserError, match="cannot be read as video"):
        read_frames(tmp_path / "text.mp4")
    with pytest.raises(UserError, match="cannot be read as video"):
        read_frames(tmp_path / "missing.mp4")
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
    with pytest.raises(UserError, match="holds no video"):
        read_frames(tmp_path / "sound.wav")
    with video_file(tmp_path / "whole.mp4", 10) as writer:
        for frame in moving(3):
            writer.add(frame)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="cannot be read as video"):
        read_frames(tmp_path / "cut.mp4")


def test_clips_for_people():
    clips = [moving(3, 8, 8), moving(3, 8, 8)[::-1]]
    tiled = list(side_by_side(clips, 2))
    assert len(tiled) == 3 and tiled[0].size == (2 * 64 + 3 * 4, 64 + 2 * 4)
    assert contact_sheet(clips).size == (3 * 64 + 4 * 4, 2 * 64 + 3 * 4)
    assert next(side_by_side(clips[:1], 1)).size == (8, 8)
