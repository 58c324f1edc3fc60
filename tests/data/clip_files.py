"""Video files for tests: frames that say their number, and files that are no videos."""

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import torch
from av.stream import Disposition
from PIL import Image

from acdit.data.video_decoding import ClipShape

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


def damaged_files(folder: Path) -> Path:
    """Write files that are no videos, or not whole, to a folder; return it."""
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.avi").write_bytes(b"")
    (folder / "notes.txt").write_text("FFmpeg would draw this text, frame by frame\n" * 30)
    Image.new("RGB", (64, 48)).save(folder / "still.jpg")
    for name, cover in (("sound.wav", False), ("song.mp4", True)):
        with av.open(str(folder / name), "w") as container:
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
    whole = write(folder / "whole.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "whole.mp4").unlink()
    with av.open(str(folder / "none.mkv"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.height = stream.width = 32
        stream.pix_fmt = "yuv420p"
        container.start_encoding()  # a header, and nothing behind it
    return folder
