"""What fails in a job, or in its reader, is the end of nothing else."""

import asyncio
import contextlib
import json
import math
import os
import shutil
import threading

import pytest

from acdit.playground.jobs import Job, Stopped, outcome
from acdit.playground.video import LabelChoice
from tests.pipelines.small import picture
from tests.playground.page import WAIT, named, served, upload

DRAW = {"label": 0, "block": "2x2", "steps": 1, "guidance": 1.5, "seed": 0}
FINISH = DRAW | {"keep": 1, "count": 2}


class Panic(BaseException):
    """As PyO3's PanicException."""


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_a_panic_is_the_end_of_its_job_alone(loop, capsys):
    def work(job):
        raise Panic("index out of bounds")

    last = outcome(Job(work, loop, lambda: False))
    assert last is not None and last["event"] == "error" and "index out of bounds" in last["message"]
    assert "Panic" in capsys.readouterr().err


def test_a_terminal_that_is_gone_ends_no_thread(loop, monkeypatch):
    class Gone:
        def write(self, text):
            raise BrokenPipeError

    def work(job):
        raise RuntimeError("a bug")

    monkeypatch.setattr("sys.stderr", Gone())
    last = outcome(Job(work, loop, lambda: False))
    assert last is not None and last["event"] == "error" and "a bug" in last["message"]


def test_a_number_that_json_does_not_have_is_not_sent(loop):
    job = Job(lambda job: job.send("recognised", score=math.nan), loop, lambda: False)
    last = outcome(job)
    assert last is not None and last["event"] == "error" and "JSON" in last["message"]


def test_a_reader_that_reads_now_and_then_blocks_the_others_for_a_limited_time(loop, monkeypatch):
    """Each pause is short, but there are many of them."""
    monkeypatch.setattr("acdit.playground.jobs.MOST_UNREAD", 1)
    monkeypatch.setattr("acdit.playground.jobs.LONGEST_BLOCKING", 1.0)
    monkeypatch.setattr("acdit.playground.jobs.CREDIT", 0.1)

    def work(job):
        for _ in range(1000):
            job.send("step")

    job = Job(work, loop, lambda: True)
    ends = []
    thread = threading.Thread(target=lambda: ends.append(outcome(job)))

    async def read():
        lines = job.lines()
        while not ends:
            await anext(lines)
            await asyncio.sleep(0.5)

    thread.start()
    loop.run_until_complete(asyncio.wait_for(read(), WAIT))
    thread.join()
    assert ends == [{"event": "stopped", "reason": "nobody read the answer"}]


@pytest.mark.parametrize("is_read", [False, True])
def test_unread_events_may_have_so_many_bytes(is_read, loop, monkeypatch):
    monkeypatch.setattr("acdit.playground.jobs.MOST_UNREAD_BYTES", 1000)
    monkeypatch.setattr("acdit.playground.jobs.LONGEST_PAUSE", 60.0 if is_read else 0.2)
    sent = []

    def work(job):
        for index in range(10):
            job.send("block", image="x" * 400)
            sent.append(index)

    job = Job(work, loop, lambda: False)

    def run():
        with contextlib.suppress(Stopped):
            work(job)
        job.post(None)

    async def read():
        return [json.loads(line) async for line in job.lines()]

    thread = threading.Thread(target=run)
    thread.start()
    if not is_read:
        thread.join()
        assert len(sent) == 2
    lines = loop.run_until_complete(read())
    thread.join()
    assert len(lines) == len(sent) == (10 if is_read else 2)


def test_an_event_that_is_larger_than_that_is_sent_alone(loop, monkeypatch):
    monkeypatch.setattr("acdit.playground.jobs.MOST_UNREAD_BYTES", 1000)
    job = Job(lambda job: job.send("block", image="x" * 4000), loop, lambda: False)
    job.work(job)

    async def first():
        return json.loads(await anext(job.lines()))

    assert len(loop.run_until_complete(first())["image"]) == 4000


def test_pictures_that_no_classifier_can_read_are_finished_all_the_same(folders, tmp_path):
    broken = tmp_path / "recogniser"
    shutil.copytree(folders["recogniser"], broken)
    with served(folders["picture"], broken) as page:
        (weights,) = broken.rglob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[:100])
        events = page.events("/api/finish", FINISH | {"model": "picture", "image": upload(picture(3))})
    assert events[-1]["event"] == "done" and "images = pipe(" in events[-1]["python"]
    assert events[-1]["note"].startswith("recogniser cannot recognise the pictures: ")
    assert named(events, "recognised") == []


def test_names_that_are_not_unicode_are_offered(folders, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(folders["picture"], folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["id2label"]["1"] = "\ud800"
    (folder / "model_index.json").write_text(json.dumps(index))
    with served(folder) as page:
        status, _, body = page.ask("GET", "/api/models")
        assert status == 200
        model = json.loads(body)["models"][0]
        assert model["name"] == "caf?" and model["classes"][1]["name"] == "\ud800"
        assert page.post("/api/how", {"model": model["name"], "block": "2x2"})[0] == 200


def test_a_class_whose_name_no_command_can_hold_is_drawn(folders, tmp_path):
    shutil.copytree(folders["picture"], tmp_path / "odd")
    index = json.loads((tmp_path / "odd" / "model_index.json").read_text())
    index["id2label"] = {"0": "\ud800", "1": "0", "2": "plain"}  # the number of one is the name of another
    (tmp_path / "odd" / "model_index.json").write_text(json.dumps(index))
    with served(tmp_path / "odd") as page:
        ends = [page.events("/api/draw", DRAW | {"model": "odd", "label": label})[-1] for label in range(3)]
    assert [end["event"] for end in ends] == ["done"] * 3
    assert ends[0]["command"] is None and "names of other classes" in ends[0]["without_command"]
    assert "--labels 0 " in ends[1]["command"] and "--labels plain " in ends[2]["command"]


def test_a_class_may_be_changed_at_any_moment():
    """While blocks begin, the plan ends in another thread."""
    for _ in range(200):
        choice = LabelChoice(0, [1] * 50)
        blocks, labels = iter(choice), []
        thread = threading.Thread(target=choice.change, args=(2,))
        for index in range(60):
            if index == 10:
                thread.start()
            labels.append(next(blocks))
        thread.join()
        assert next(blocks) == 2 and set(labels) <= {1, 2}
