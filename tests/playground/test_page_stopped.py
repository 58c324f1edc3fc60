"""Jobs that are stopped: nothing follows, and the copied texts make what was made, or the whole."""

import asyncio
import json
import shlex
from functools import partial

import numpy as np
import pytest
from PIL import Image

from acdit.cli.main import main
from acdit.media.videos import read_frames
from acdit.playground.draw import Start, draw, finish
from acdit.playground.jobs import Job, outcome
from acdit.playground.requests import Settings
from acdit.playground.shelf import Shelf
from acdit.playground.video import Clip, LabelChoice, film
from acdit.playground.write import TextSettings, write
from tests.pipelines.small import picture
from tests.playground.page import levels, named

BLOCK = 1  # after which the jobs are stopped


class Noted(Job):
    """A job that keeps the events that it sends and posts, and that is stopped at one that it sends."""

    def __init__(self, work, loop, at):
        super().__init__(work, loop, lambda: False)
        self.at, self.events, self.posted = at, [], []

    def send(self, event, **values):
        super().send(event, **values)
        self.events.append(json.loads(json.dumps({"event": event, **values})))
        if self.at(self.events[-1]):
            self.stop()

    def post(self, event):
        super().post(event)
        self.posted.append(event)


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def shelf(folders):
    return Shelf([str(folder) for folder in folders.values()])


def run(work, loop, at):
    """The events of a job that is stopped, and its last one."""
    job = Noted(work, loop, at)
    last = outcome(job)
    assert last is not None and last["event"] == "stopped", last
    return job.events, last


def after_block(event):
    return event.get("block") == BLOCK and event["event"] in ("block", "tokens")


def execute(last, folder, monkeypatch, capsys):
    """Run both copied texts; what they print."""
    monkeypatch.chdir(folder)
    capsys.readouterr()
    values = {}
    exec(compile(last["python"], "copied.py", "exec"), values)
    printed = capsys.readouterr().out
    assert main(shlex.split(last["command"])[1:]) == 0, capsys.readouterr().err
    return values, printed, capsys.readouterr().out


def test_a_stopped_picture_has_the_code_of_the_whole_one(shelf, loop, tmp_path, monkeypatch, capsys):
    card, settings = shelf.cards["picture"], Settings(1, (2, 2), 3, 2.0, 5)
    events, last = run(lambda job: draw(job, shelf, card, settings), loop, after_block)
    assert [event["block"] for event in named(events, "block")] == [0, 1]
    assert max(event["block"] for event in named(events, "step")) == BLOCK  # the next one did not begin
    assert last["whole"] is True
    values, *_ = execute(last, tmp_path, monkeypatch, capsys)
    whole = np.asarray(values["images"][0])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "drawn.png")), whole)
    assert np.array_equal(levels(named(events, "block")[-1]["image"])[:4], whole[:4])  # the two upper blocks


def test_a_picture_is_stopped_within_a_block(shelf, loop):
    card, settings = shelf.cards["picture"], Settings(1, (2, 2), 3, 2.0, 5)
    at = {"block": 1, "step": 1}
    events, last = run(
        lambda job: draw(job, shelf, card, settings),
        loop,
        lambda event: event["event"] == "step" and at.items() <= event.items(),
    )
    assert at.items() <= events[-1].items() and len(named(events, "block")) == 1
    assert last["command"].startswith("acdit sample --model ")


def test_stopped_pictures_that_are_finished(shelf, loop, tmp_path, monkeypatch, capsys):
    card, settings, given = shelf.cards["picture"], Settings(None, (2, 2), 3, 2.0, 5), picture(3)
    at = [2, 3]
    events, last = run(
        lambda job: finish(job, shelf, card, settings, Start(given, 2, 2)),
        loop,
        lambda event: event.get("block") == at[0],
    )
    assert [event["block"] for event in named(events, "block")] == at[:1]
    assert last["whole"] is True and "--no-class" in last["command"]
    given.save(tmp_path / "picture.png")
    values, *_ = execute(last, tmp_path, monkeypatch, capsys)
    for url, image in zip(named(events, "block")[-1]["images"], values["images"], strict=True):
        assert np.array_equal(levels(url)[4:, :4], np.asarray(image)[4:, :4])  # the third block


def test_a_stopped_video_has_the_code_of_what_was_made(shelf, loop, tmp_path, monkeypatch, capsys):
    card, settings = shelf.cards["clip"], Settings(1, (1, 4, 4), 2, 2.0, 4)
    clip = Clip(LabelChoice(1), None, [])
    events, last = run(
        lambda job: film(job, shelf, card, settings, clip), loop, lambda event: event.get("first") == 1
    )
    frames = [levels(url) for event in named(events, "frames") for url in event["images"]]
    assert len(frames) == 2 and "whole" not in last
    values, *_ = execute(last, tmp_path, monkeypatch, capsys)
    written = [np.asarray(frame.convert("L")) for frame in read_frames(tmp_path / "video.gif")]
    for others in ([np.asarray(frame) for frame in values["frames"]], written):
        assert len(others) == 2 and all(map(np.array_equal, frames, others))


def test_a_stopped_text_has_the_code_of_what_was_made(shelf, loop, tmp_path, monkeypatch, capsys):
    card, settings = shelf.cards["letters"], TextSettings("Ah", False, 4, None, 0.8, 3, 13)
    events, last = run(lambda job: write(job, shelf, card, settings), loop, after_block)
    text = "".join(token["text"] for event in named(events, "tokens") for token in event["tokens"])
    assert [event["block"] for event in named(events, "tokens")] == [0, 1] and len(text) == 8
    assert last["whole"] is False
    assert execute(last, tmp_path, monkeypatch, capsys)[1:] == (text + "\n", text + "\n")


def test_a_stopped_text_with_gaps_has_the_code_of_the_whole_one(shelf, loop, tmp_path, monkeypatch, capsys):
    card, settings = shelf.cards["letters"], TextSettings("To ___ or ____", True, 4, None, 1.0, 1)
    events, last = run(lambda job: write(job, shelf, card, settings), loop, after_block)
    text = "".join(token["text"] for event in named(events, "tokens") for token in event["tokens"])
    assert len(text) == 8 and last["whole"] is True
    _, printed, written = execute(last, tmp_path, monkeypatch, capsys)
    assert printed == written and printed.startswith(text) and len(printed) == 15


@pytest.mark.parametrize("tab", ["draw", "video", "write"])
def test_a_job_that_is_stopped_when_all_is_made_is_done(tab, shelf, loop):
    """The result is whole, so its code comes with it."""
    if tab == "draw":
        settings, end = Settings(1, (2, 2), 3, 2.0, 5), {"event": "block", "block": 3}
        work = partial(draw, shelf=shelf, card=shelf.cards["picture"], settings=settings)
    elif tab == "video":
        settings, end = Settings(1, (1, 4, 4), 2, 2.0, 4), {"event": "frames", "first": 2}
        clip = Clip(LabelChoice(1), 3, [])
        work = partial(film, shelf=shelf, card=shelf.cards["clip"], settings=settings, clip=clip)
    else:
        text, end = TextSettings("Ah", False, 4, None, 0.8, 3, 13), {"event": "tokens", "block": 3}
        work = partial(write, shelf=shelf, card=shelf.cards["letters"], settings=text)
    job = Noted(work, loop, lambda event: end.items() <= event.items())
    assert outcome(job) is None and job.stopped
    assert job.posted[-1]["event"] == "done" and job.posted[-1]["command"].startswith("acdit sample")
