"""The recording of the README: the program that makes it sees the page draw."""

from importlib.util import module_from_spec, spec_from_file_location

import pytest
from PIL import Image, ImageSequence

from tests.playground.browser import ROOT

pytestmark = pytest.mark.long


def test_the_recording_shows_pictures_that_grow(tmp_path, monkeypatch):
    spec = spec_from_file_location("record_page", ROOT / "docs" / "record_page.py")
    assert spec is not None and spec.loader is not None
    program = module_from_spec(spec)
    spec.loader.exec_module(program)
    monkeypatch.setattr(program, "OUT", tmp_path / "page.gif")
    size = program.save(program.record())
    assert 0 < size == (tmp_path / "page.gif").stat().st_size
    with Image.open(tmp_path / "page.gif") as recording:
        frames = {frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(recording)}
        assert recording.size == (720, 533)
    assert len(frames) >= 3
