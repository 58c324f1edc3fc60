"""Limits on the pixels of frames hold for what is shown, and wherever in a file the frames grow."""

from fractions import Fraction
from itertools import accumulate, chain, repeat
from typing import Any

import av
import numpy as np
import pytest
from av.error import FFmpegError

from acdit.media.merged_frames import even_frames
from acdit.media.video_opening import VideoError, opened_video
from acdit.media.video_reading import VideoReader


def encoded(path, side, count=3, sample_aspect=None, container_format=None):
    with av.open(str(path), "w", format=container_format) as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = side, side, "yuv420p"
        if sample_aspect is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect
        for level in range(count):
            pixels = np.full((side, side, 3), 60 * level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def read(source, **limits):
    with VideoReader(source, **limits) as video:
        return [frame.size for frame in video.every_frame()]


def test_the_pixels_of_a_stretched_frame_count(tmp_path):
    path = encoded(tmp_path / "wide.mp4", 64, sample_aspect=Fraction(50))
    assert read(path, max_pixels=3200 * 64) == [(3200, 64)] * 3
    with pytest.raises(VideoError, match="3,200x64 pixels, more than 204,799"):
        read(path, max_pixels=3200 * 64 - 1)


def test_frames_that_grow_on_the_way_are_refused(tmp_path):
    small = encoded(tmp_path / "small.h264", 64, container_format="h264").read_bytes()
    large = encoded(tmp_path / "large.h264", 256, container_format="h264").read_bytes()
    assert (256, 256) in read(small + large, max_pixels=2**16)
    with pytest.raises(VideoError):
        read(small + large, max_pixels=2**16 - 1)
    sizes = []  # the decoder itself refuses them, before it reserves memory
    with opened_video(small + large, 2**16 - 1) as (container, stream), pytest.raises(FFmpegError):
        for packet in container.demux(stream):
            sizes += [frame.width for frame in packet.decode()]
    assert set(sizes) <= {64}


def test_the_frames_that_are_decoded_are_bounded(tmp_path):
    path = encoded(tmp_path / "many.mp4", 64, count=5)
    assert len(read(path, max_decoded=5 * 2**20)) == 5
    with pytest.raises(VideoError, match="stores too many frames"):
        read(path, max_decoded=4 * 2**20)


def test_durations_without_a_common_rate_end_the_search():
    """Each of the numbers of frames up to the last one takes the durations a while to rule out."""
    ends = [*accumulate(chain([0.02, 0.03], *repeat((655.35, 655.34), 1000)))]
    assert even_frames(ends) == round(ends[-1] / 0.02)
