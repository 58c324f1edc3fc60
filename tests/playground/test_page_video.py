"""The tab Video: clips are those of the library, whatever their length, and their class can change."""

import json
import math
import shlex
import time
from io import BytesIO
from itertools import chain, repeat
from typing import Any

import numpy as np
import pytest
from PIL import Image

import acdit
from acdit.cli.main import main
from acdit.media.videos import read_frames
from acdit.playground.requests import Settings
from acdit.playground.shelf import Shelf
from acdit.playground.video import FASTEST, MOST_AHEAD, Clip, LabelChoice, texts
from tests.pipelines.small import picture, seeded
from tests.playground.models import build_video
from tests.playground.page import encoded, levels, named, served

VIDEO = {
    "model": "clip",
    "label": 1,
    "labels_by_block": None,
    "frames": 4,
    "block": "1x4x4",
    "steps": 2,
    "guidance": 2.0,
    "seed": 4,
    "clip": None,
}
SETTINGS: dict[str, Any] = {"block": (1, 4, 4), "num_inference_steps": 2, "guidance_scale": 2.0}


def loaded(folders):
    pipe = acdit.load_pipeline(folders["clip"], kind=acdit.ACDiTVideoPipeline)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def frames_of(events):
    return [levels(url) for event in named(events, "frames") for url in event["images"]]


def same(frames, others):
    assert len(frames) == len(others)
    return all(np.array_equal(one, levels(other)) for one, other in zip(frames, others, strict=True))


def run_python(code, folder, monkeypatch):
    monkeypatch.chdir(folder)
    values: dict[str, Any] = {}
    exec(compile(code, "copied.py", "exec"), values)
    assert (folder / "video.gif").stat().st_size
    return values["frames"]


def assert_copied_texts_make(frames, last, folder, monkeypatch, capsys):
    """Run the code and the command of a last event, and compare the frames of both."""
    assert same(frames, run_python(last["python"], folder, monkeypatch))
    assert main(shlex.split(last["command"])[1:]) == 0, capsys.readouterr().err
    assert same(frames, [frame.convert("L") for frame in read_frames(folder / "video.gif")])


@pytest.mark.parametrize(
    "change",
    [{}, {"frames": 12}, {"label": None}, {"block": "2x4x4"}, {"frames": 12, "hold": True}],
)
def test_a_video_is_that_of_the_pipeline_and_of_the_copied_code(change, page, folders, tmp_path, monkeypatch):
    asked = VIDEO | change
    events = page.events("/api/video", asked)
    settings, size = dict(SETTINGS), 1
    if "block" in change:
        settings["block"], size = (2, 4, 4), 2
    if "hold" in change:
        settings |= {"sinks": 1, "window": 2, "context_noise": 0.05}
    expected = loaded(folders)([asked["label"]], num_frames=asked["frames"], generator=seeded(4), **settings)
    frames = frames_of(events)
    assert same(frames, expected.frames[0])
    pieces = named(events, "frames")
    assert [piece["first"] for piece in pieces] == list(range(0, asked["frames"], size))
    assert pieces[-1]["evaluations"] == expected.evaluations
    assert pieces[-1]["cache_bytes"] == expected.cache_bytes
    assert same(frames, run_python(events[-1]["python"], tmp_path, monkeypatch))


@pytest.mark.parametrize(
    "change",
    [{}, {"frames": 6}, {"frames": 12, "hold": True}, {"label": None}],
)
def test_the_copied_command_makes_the_same_video(change, page, tmp_path, monkeypatch, capsys):
    events = page.events("/api/video", VIDEO | change)
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(events[-1]["command"])[1:]) == 0, capsys.readouterr().err
    written = [frame.convert("L") for frame in read_frames(tmp_path / "video.gif")]
    assert same(frames_of(events), written)


@pytest.mark.parametrize("planned", [None, [1, 2, 1]])
def test_a_video_without_end_stops_when_it_is_told(planned, page, folders, tmp_path, monkeypatch, capsys):
    with page.stream("/api/video", VIDEO | {"frames": None, "labels_by_block": planned}) as stream:
        events = []
        for event in stream:
            events.append(event)
            if len(frames_of(events)) == 10:
                page.post("/api/stop", {"job": events[0]["job"]})
    assert events[-1]["event"] == "stopped"
    frames = frames_of(events)
    assert 10 <= len(frames) < 100
    assert len({piece["cache_bytes"] for piece in named(events, "frames")}) == 1
    labels = chain(planned or (), repeat(1))
    pieces = loaded(folders).stream(labels, num_frames=math.inf, generator=seeded(4), **SETTINGS)
    expected = [frame for _, piece in zip(frames, pieces, strict=False) for frame in piece.frames[0]]
    assert same(frames, expected)
    assert_copied_texts_make(frames, events[-1], tmp_path, monkeypatch, capsys)


def test_a_video_without_end_is_not_far_ahead_of_the_player(page):
    """Frames are read as fast as they come, as the system and the browser do before a player shows them."""
    began, first, made = time.monotonic(), None, 0
    with page.stream("/api/video", VIDEO | {"frames": None, "steps": 1, "guidance": 1.0}) as events:
        for event in events:
            first = first or (time.monotonic() if event["event"] == "frames" else None)
            made += len(event.get("images", ()))
            passed = time.monotonic() - began
            assert made <= MOST_AHEAD + FASTEST * passed + 1
            if first and (made >= 3 * MOST_AHEAD or time.monotonic() - first > 2):
                break
    assert made


def test_the_class_changes_on_the_way(page, folders, tmp_path, monkeypatch, capsys):
    with page.stream("/api/video", VIDEO | {"frames": 40}) as stream:
        events = []
        for event in stream:
            events.append(event)
            if len(frames_of(events)) == 3:
                answer = page.post("/api/video/label", {"job": events[0]["job"], "label": 2})
                assert answer == (200, {"accepted": True})
    frames = frames_of(events)
    plain = frames_of(page.events("/api/video", VIDEO | {"frames": 40}))
    changed = [index for index in range(40) if not np.array_equal(frames[index], plain[index])]
    assert changed and changed[0] >= 3
    labels = chain([1] * changed[0], repeat(2))
    expected = loaded(folders)(labels, num_frames=40, generator=seeded(4), **SETTINGS).frames[0]
    assert same(frames, expected)
    assert_copied_texts_make(frames, events[-1], tmp_path, monkeypatch, capsys)


def test_a_video_that_keeps_its_first_block_in_view_keeps_its_class(page):
    with page.stream("/api/video", VIDEO | {"frames": 400, "hold": True}) as events:
        status, answer = page.post("/api/video/label", {"job": next(events)["job"], "label": 2})
        assert status == 404 and "cannot be changed" in answer["error"]


def test_classes_are_planned_block_by_block(page, folders):
    events = page.events("/api/video", VIDEO | {"frames": 6, "labels_by_block": [0, 0, 2]})
    expected = loaded(folders)(iter([0, 0, 2, 2, 2, 2]), num_frames=6, generator=seeded(4), **SETTINGS)
    assert same(frames_of(events), expected.frames[0])


def test_a_block_without_a_class_has_a_word(page, folders, tmp_path, monkeypatch, capsys):
    with page.stream("/api/video", VIDEO | {"frames": 40}) as stream:
        events = []
        for event in stream:
            events.append(event)
            if len(frames_of(events)) == 3:
                page.post("/api/video/label", {"job": events[0]["job"], "label": None})
    assert ',"",' in events[-1]["command"]
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(events[-1]["command"])[1:]) == 0, capsys.readouterr().err
    written = [frame.convert("L") for frame in read_frames(tmp_path / "video.gif")]
    assert same(frames_of(events), written)
    assert not same(frames_of(page.events("/api/video", VIDEO | {"frames": 40})), written)


def test_a_command_that_a_shell_would_not_take_is_left_out(folders):
    """Linux passes at most 128 KiB in one word."""
    shelf = Shelf([str(folders["clip"])])
    settings = Settings(1, (1, 4, 4), 2, 2.0, 4)
    for blocks in (1000, 70_000):
        choice = LabelChoice(1)
        labels = iter(choice)
        for block in range(blocks):
            if block == 1:
                choice.change(2)
            next(labels)
        made = texts(shelf.cards["clip"], settings, Clip(choice, None, []), blocks, shelf.machine)
        assert f"[1] * 1 + [2] * {blocks - 1}" in made["python"]
        if blocks == 1000:
            assert len(made["command"]) < 2**17 and "without_command" not in made
        else:
            assert made["command"] is None and "100,000 bytes" in made["without_command"]


@pytest.mark.parametrize("frames", [4, 9])
def test_a_clip_is_continued(frames, page, folders, tmp_path, monkeypatch, capsys):
    pictures = [picture(1, 20, 16, seed) for seed in range(3)]
    file = BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    events = page.events(
        "/api/video", VIDEO | {"frames": frames, "clip": encoded(file.getvalue(), "image/gif")}
    )
    (given,) = named(events, "given")
    assert [levels(url).shape for url in given["images"]] == [(8, 8)] * 3
    assert named(events, "frames")[0]["first"] == 3
    prefix = [Image.fromarray(levels(url)) for url in given["images"]]
    expected = loaded(folders)(
        [1], num_frames=3 + frames, prefix=prefix, generator=seeded(4), **SETTINGS
    ).frames[0]
    assert same(frames_of(events), expected[3:])
    (tmp_path / "clip.gif").write_bytes(file.getvalue())
    made = run_python(events[-1]["python"], tmp_path, monkeypatch)
    assert same(frames_of(events), made[3:])
    assert same([levels(each) for each in prefix], made[:3])
    assert main(shlex.split(events[-1]["command"])[1:]) == 0, capsys.readouterr().err
    written = [frame.convert("L") for frame in read_frames(tmp_path / "video.gif")]
    assert same([levels(each) for each in prefix] + frames_of(events), written)


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"label": 3}, 400, "0 to 2"),
        ({"labels_by_block": [0, 3]}, 400, "0 to 2"),
        ({"labels_by_block": []}, 400, "labels_by_block"),
        ({"labels_by_block": [1, 2], "hold": True}, 400, "leave out labels_by_block"),
        ({"labels_by_block": ["ant"]}, 400, "labels_by_block"),
        ({"frames": 0}, 400, "frames"),
        ({"frames": 10**9}, 400, "frames"),
        ({"frames": 3, "block": "2x4x4"}, 400, "multiple of 2"),
        ({"model": "picture"}, 400, "this tab cannot show"),
        ({"clip": "data:video/mp4;base64,AAAA"}, 400, "cannot be read"),
        ({"clip": encoded(b"no video", "video/mp4")}, 400, "cannot be read"),
        ({"clip": encoded(b"GIF89a\xff\xff\xff\xff\x00\x00\x00;", "image/gif")}, 400, "65,535x65,535"),
        ({"clip": encoded(b"GIF89a\x08\x00\x08\x00\x00\x00\x00;", "image/gif")}, 400, "cannot be read"),
        ({"clip": 5}, 400, "clip must be text"),
    ],
)
def test_videos_that_cannot_be(change, status, said, page):
    given, answer = page.post("/api/video", VIDEO | change)
    assert given == status and said in answer["error"]


def test_a_clip_that_stores_too_many_frames(page, monkeypatch):
    file = BytesIO()
    picture(1).save(
        file, "GIF", save_all=True, append_images=[picture(1, seed=seed) for seed in (1, 2)], duration=100
    )
    monkeypatch.setattr("acdit.playground.pictures.UPLOAD_DECODED", 2 * 2**20)
    status, answer = page.post("/api/video", VIDEO | {"clip": encoded(file.getvalue(), "image/gif")})
    assert status == 400 and "stores too many frames" in answer["error"]


def test_a_clip_that_is_shorter_than_a_block(page):
    file = BytesIO()
    picture(1).save(file, "GIF")
    clip = encoded(file.getvalue(), "image/gif")
    status, answer = page.post("/api/video", VIDEO | {"block": "2x4x4", "clip": clip})
    assert status == 400 and "1 frames, fewer than a block of 2" in answer["error"]


def test_the_class_of_another_job_cannot_be_changed(page):
    assert page.post("/api/video/label", {"job": "0" * 16, "label": 1})[0] == 404
    draw = {"model": "picture", "label": 0, "block": "1x1", "steps": 100, "guidance": 1.5, "seed": 0}
    with page.stream("/api/draw", draw) as events:
        assert page.post("/api/video/label", {"job": next(events)["job"], "label": 1})[0] == 404
    with page.stream("/api/video", VIDEO | {"frames": 400}) as events:
        job = next(events)["job"]
        status, answer = page.post("/api/video/label", {"job": job, "label": 7})
        assert status == 400 and "0 to 2" in answer["error"]


def test_a_model_whose_past_depends_on_the_class_keeps_it(tmp_path):
    build_video(context="noised").save_pretrained(tmp_path / "noised")
    with served(tmp_path / "noised") as page:
        models = json.loads(page.ask("GET", "/api/models")[2])["models"]
        assert models[0]["tabs"] == ["video"] and models[0]["can_change_class"] is False
        (digits,) = (model for model in models if model["name"] == "moving-digits")
        assert digits["can_change_class"] is True
        assert all(("can_change_class" in model) == (model["modality"] == "video") for model in models)
        assert (models[0]["can_hold"], digits["can_hold"]) == (False, True)
        asked = VIDEO | {"model": "noised"}
        status, answer = page.post("/api/video", asked | {"hold": True})
        assert status == 400 and "cannot keep the first block in view" in answer["error"]
        status, answer = page.post("/api/video", asked | {"labels_by_block": [0, 1]})
        assert status == 400 and "cannot change" in answer["error"]
        events = page.events("/api/video", asked)
        pipe = acdit.load_pipeline(tmp_path / "noised", kind=acdit.ACDiTVideoPipeline)
        expected = pipe([1], num_frames=4, generator=seeded(4), **SETTINGS).frames[0]
        assert same(frames_of(events), expected)
        assert "class_labels=[1]," in events[-1]["python"] and "--labels bee" in events[-1]["command"]
