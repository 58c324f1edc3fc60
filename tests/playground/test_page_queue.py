"""The queue: jobs in order, stop, people who go away, and jobs that fail."""

import shutil
import threading
from itertools import islice

import numpy as np
import pytest

import acdit
from acdit.playground.jobs import MOST_WAITING
from tests.pipelines.small import seeded
from tests.playground.page import WAIT, first_event, levels, named, served

SHORT = {"model": "picture", "label": 0, "block": "4x4", "steps": 2, "guidance": 1.5, "seed": 0}
LONG = SHORT | {"block": "1x1", "steps": 100}  # 1600 steps


def wait_until_idle(page):
    """A job after others is answered when they have ended."""
    assert page.events("/api/draw", SHORT)[-1]["event"] == "done"


def test_jobs_wait_in_the_order_of_arrival_and_are_told_their_position(page):
    with page.stream("/api/draw", LONG) as running:
        running_id = first_event(running, "started")["job"]
        with page.stream("/api/draw", SHORT) as second, page.stream("/api/draw", SHORT) as third:
            assert next(second)["position"] == 1  # the running one comes first
            assert next(third)["position"] == 2
            assert page.post("/api/stop", {"job": running_id}) == (200, {"stopped": True})
            assert next(event for event in third if event["event"] in ("queued", "done"))["position"] == 1
            assert list(second)[-1]["event"] == "done"


def test_stop_ends_a_running_job_and_the_next_one_runs(page):
    with page.stream("/api/draw", LONG) as events:
        job = first_event(events, "started")["job"]
        first_event(events, "step")
        assert page.post("/api/stop", {"job": job}) == (200, {"stopped": True})
        rest = list(events)
    assert rest[-1]["event"] == "stopped" and len(named(rest, "block")) < 16
    assert page.post("/api/stop", {"job": job}) == (200, {"stopped": False})
    assert page.events("/api/draw", SHORT)[-1]["event"] == "done"


def test_stop_ends_a_waiting_job_at_once(page):
    with page.stream("/api/draw", LONG) as running:
        first_event(running, "started")
        with page.stream("/api/draw", SHORT) as waiting:
            job = next(waiting)["job"]
            assert page.post("/api/stop", {"job": job}) == (200, {"stopped": True})
            assert list(waiting)[-1] == {"event": "stopped"}
        assert next(running)["event"] in ("step", "block")
    wait_until_idle(page)


def test_a_job_whose_reader_has_gone_is_stopped(page, monkeypatch):
    for limit in ("LONGEST_PAUSE", "LONGEST_BLOCKING"):
        monkeypatch.setattr(f"acdit.playground.jobs.{limit}", 1e9)  # it would wait for its reader
    with page.stream("/api/draw", LONG) as events:
        job = first_event(events, "started")["job"]
        first_event(events, "step")
    wait_until_idle(page)
    assert page.post("/api/stop", {"job": job}) == (200, {"stopped": False})


def test_a_text_stops_too(page):
    text = {"model": "shakespeare", "prompt": "", "block": 1, "steps": None, "temperature": 1.0, "seed": 0}
    with page.stream("/api/write", text | {"tokens": 256}) as events:
        job = first_event(events, "started")["job"]
        first_event(events, "tokens")
        page.post("/api/stop", {"job": job})
        assert list(events)[-1]["event"] == "stopped"


def test_a_video_without_end_gives_way_to_those_who_wait(page, monkeypatch):
    endless = {"model": "clip", "label": 1, "labels_by_block": None, "frames": None, "clip": None}
    endless |= {"block": "1x4x4", "steps": 1, "guidance": 1.0, "seed": 4}
    with page.stream("/api/video", endless) as video:
        first_event(video, "frames")
        with page.stream("/api/draw", SHORT) as waiting:
            monkeypatch.setattr("acdit.playground.video.FAIR_SECONDS", 1e9)
            before = [first_event(video, "frames") for _ in range(24)]  # its time is not over
            monkeypatch.setattr("acdit.playground.video.FAIR_SECONDS", 0.0)
            events = [*before, *islice(video, 500)]  # it would go on without end
            assert list(waiting)[-1]["event"] == "done"
    assert (events[-1]["event"], events[-1]["reason"]) == ("stopped", "another request is waiting")
    made = events[-2]["first"] + len(events[-2]["images"])
    assert made > 24 and f"num_frames={made}" in events[-1]["python"]
    with page.stream("/api/video", endless) as alone:  # nobody waits: it goes on
        frames = 0
        while frames < 24:
            frames += len(first_event(alone, "frames")["images"])


def test_four_people_at_once_get_their_own_pictures(page, folders):
    answers = {}

    def ask(label, seed):
        answers[label, seed] = page.events("/api/draw", SHORT | {"label": label, "seed": seed})

    wanted = [(0, 0), (1, 1), (2, 2), (0, 9)]
    threads = [threading.Thread(target=ask, args=each) for each in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    pipe = acdit.load_pipeline(folders["picture"], kind=acdit.ACDiTImagePipeline)
    for label, seed in wanted:
        output = pipe(label, block=(4, 4), num_inference_steps=2, guidance_scale=1.5, generator=seeded(seed))
        drawn = levels(named(answers[label, seed], "block")[-1]["image"])
        assert np.array_equal(drawn, levels(output.images[0]))


def test_a_full_queue_refuses(page):
    connections = []
    with page.stream("/api/draw", LONG) as running:
        first_event(running, "started")
        try:
            for _ in range(MOST_WAITING):
                connections.append(page.stream("/api/draw", SHORT))
                next(connections[-1].__enter__())
            status, answer = page.post("/api/draw", SHORT)
            assert status == 503 and "waiting" in answer["error"]
        finally:
            for connection in connections:
                connection.__exit__(None, None, None)
    wait_until_idle(page)


def test_a_job_that_fails_ends_with_a_message_and_the_page_goes_on(folders, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folders["picture"], broken)
    with served(broken, folders["picture"]) as page:
        (weights,) = (broken / "transformer").glob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[:100])
        events = page.events("/api/draw", SHORT | {"model": "broken"})
        assert [event["event"] for event in events] == ["queued", "started", "loading", "error"]
        assert "broken" in events[-1]["message"]
        assert page.events("/api/draw", SHORT)[-1]["event"] == "done"


def test_a_model_is_loaded_once(folders):
    with served(folders["picture"]) as page:
        first = [event["event"] for event in page.events("/api/draw", SHORT)]
        assert first[:4] == ["queued", "started", "loading", "loaded"] and first.count("loading") == 1
        assert named(page.events("/api/draw", SHORT), "loading") == []


def test_a_reader_that_does_not_read_does_not_block_the_others(folders, monkeypatch):
    """Although it might pause for very long if nobody waited."""
    monkeypatch.setattr("acdit.playground.jobs.LONGEST_PAUSE", 1e9)
    monkeypatch.setattr("acdit.playground.jobs.LONGEST_BLOCKING", 0.5)
    with (
        served(folders["picture"], buffer=4096) as page,
        page.stream("/api/draw", LONG) as events,
    ):
        first_event(events, "started")  # and reads nothing more
        assert page.events("/api/draw", SHORT)[-1]["event"] == "done"
        last = list(events)[-1]
    assert (last["event"], last["reason"]) == ("stopped", "nobody read the answer")


@pytest.mark.parametrize("name", ["", "0" * 16, None, 5])
def test_an_unknown_job_is_not_stopped(name, page):
    status, answer = page.post("/api/stop", {"job": name})
    assert (status, answer) == (200, {"stopped": False}) if isinstance(name, str) else status == 400
