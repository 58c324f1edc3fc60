"""Uploads of all sorts: pictures as they are seen, and clips that cannot be continued."""

import json
import wave
from io import BytesIO
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.pipelines.small import picture
from tests.playground.page import JSON, encoded, levels, named, upload

VIDEO = {"model": "clip", "label": 1, "block": "1x4x4", "steps": 1, "guidance": 2.0, "seed": 4, "frames": 2}


@pytest.fixture(autouse=True)
def still_there(page):
    yield
    assert page.ask("GET", "/api/models")[0] == 200


def bytes_of(image: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def seen(page, url: str) -> np.ndarray:
    """Levels (8, 8, 3) of an upload as a model sees it."""
    status, answer = page.post("/api/preview", {"model": "picture", "image": url, "block": "2x2"})
    assert status == 200, answer
    return levels(answer["image"])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animated_picture_the_first_frame_is_seen(kind, page):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    moving = bytes_of(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    with Image.open(BytesIO(moving)) as image:
        assert getattr(image, "n_frames", 1) == 3
    mean = seen(page, encoded(moving)).reshape(-1, 3).mean(0)
    assert mean[0] > 250 and max(mean[1:]) < 5


def test_16_bits_are_scaled_to_8(page):
    values = (np.arange(64, dtype=np.uint32).reshape(8, 8) * 1040).astype(np.uint16)
    grey = seen(page, encoded(bytes_of(Image.fromarray(values), "PNG")))
    assert np.array_equal(grey, np.repeat(np.round(values / 257)[..., None], 3, axis=2))


def test_the_four_inks_of_print_become_colours(page):
    inks = bytes_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")  # magenta and yellow
    mean = seen(page, encoded(inks, "image/jpeg")).reshape(-1, 3).mean(0)
    assert mean[0] > 200 and max(mean[1:]) < 60


def test_a_photograph_is_seen_upright(page):
    """Of orientation 6, whose upper half is shown on the right."""
    image, exif = Image.new("RGB", (40, 40), "white"), Image.Exif()
    image.paste("black", (0, 0, 40, 20))
    exif[0x0112] = 6
    upright = seen(page, encoded(bytes_of(image, "JPEG", exif=exif), "image/jpeg"))
    assert upright[:, 5:].max() < 60 and upright[:, :3].min() > 200


def test_a_photograph_with_damaged_exif_data_is_seen(page):
    image = Image.new("RGB", (40, 40), "white")
    damaged = bytes_of(image, "JPEG", exif=b"Exif\0\0" + b"\xff" * 40)
    assert seen(page, encoded(damaged, "image/jpeg")).min() > 250


def film(frames: int, codec: str = "mpeg4", height: int = 32, width: int = 32) -> bytes:
    """An MP4 file of a number of frames."""
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=8)
        stream.height, stream.width = height, width
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            levels = np.full((height, width, 3), 20 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(levels, format="rgb24")))
        if frames:
            container.mux(stream.encode())
        else:
            container.start_encoding()  # a header, and nothing behind it
    return file.getvalue()


def sound(kind: str) -> bytes:
    """A file of sound alone."""
    file = BytesIO()
    if kind == "wav":
        with wave.open(file, "wb") as writer:
            writer.setnchannels(1)
            writer.setsampwidth(2)
            writer.setframerate(8000)
            writer.writeframes(bytes(1600))
        return file.getvalue()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream("aac", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
        container.mux(stream.encode())
    return file.getvalue()


CLIPS = {
    "nothing": (b"", "cannot be read"),
    "words": (b"these are words", "cannot be read"),
    "half of it": (film(3)[: len(film(3)) // 2], "cannot be read"),
    "no frame": (film(0), "cannot be read"),
    "no codec": (film(3)[: film(3).index(b"stsd") - 4], "its codec is not known"),
    "sound as WAV": (sound("wav"), "holds no video"),
    "sound as MP4": (sound("mp4"), "holds no video"),
    "still picture": (bytes_of(picture(3, 20, 16), "PNG"), "holds no video"),
    "narrow frames": (film(3, height=16, width=1616), "1616x16 pixels is too narrow"),
    "large frames": (b"GIF89a" + bytes([16, 39, 16, 39]) + bytes(3), "10,000x10,000 pixels"),
    "playlist of addresses": (
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n",
        "cannot be read",
    ),
    "playlist of files": (
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "cannot be read",
    ),
}


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_that_cannot_be_continued(name, page, capsys):
    data, said = CLIPS[name]
    status, answer = page.post("/api/video", VIDEO | {"clip": encoded(data, "video/mp4")})
    assert status == 400 and said in answer["error"]
    assert "Traceback" not in capsys.readouterr().err


def test_the_clip_of_these_tests_can_be_continued(page):
    events = page.events("/api/video", VIDEO | {"clip": encoded(film(3), "video/mp4")})
    assert len(named(events, "given")[0]["images"]) == 3 and events[-1]["event"] == "done"


def test_a_video_is_no_picture(page):
    for path, values in (("preview", {"model": "picture"}), ("preview", {"model": "mnist"})):
        status, answer = page.post(f"/api/{path}", values | {"image": encoded(film(3), "video/mp4")})
        assert status == 400 and "not an image" in answer["error"]


def test_a_preview_is_of_a_block_that_the_model_has(page):
    values = {"model": "picture", "image": upload(picture(3))}
    for block in ("3x3", "-2x-2", "", "2x2x2"):
        status, answer = page.post("/api/preview", values | {"block": block})
        assert status == 400 and "block must be one of" in answer["error"]


def test_a_picture_whose_data_end_too_early(page):
    whole = bytes_of(picture(3, 64, 64), "PNG")
    for size in (20, len(whole) // 2):
        body = json.dumps({"model": "picture", "image": encoded(whole[:size])}).encode()
        status, _, answer = page.ask("POST", "/api/preview", body, JSON)
        assert status == 400 and "cannot be read" in json.loads(answer)["error"]
