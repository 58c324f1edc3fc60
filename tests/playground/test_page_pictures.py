"""The tabs Draw and Finish: the pictures are those of the library and of the command line."""

import shlex
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

import acdit
from acdit.cli.main import main
from acdit.media.images import GAP
from tests.pipelines.small import picture
from tests.playground.page import encoded, levels, named, opened, upload

DRAW = {"model": "picture", "label": 1, "block": "2x2", "steps": 3, "guidance": 2.0, "seed": 5}


def loaded(folders):
    return acdit.load_pipeline(folders["picture"], kind=acdit.ACDiTImagePipeline)


def run_python(code, folder, monkeypatch):
    monkeypatch.chdir(folder)
    exec(compile(code, "copied.py", "exec"), {})


def run_command(command, folder, monkeypatch, capsys):
    """Run a copied command, and return the samples in its picture."""
    monkeypatch.chdir(folder)
    words = shlex.split(command)
    assert words[:2] == ["acdit", "sample"]
    assert main(words[1:]) == 0, capsys.readouterr().err
    sheet = np.asarray(Image.open(folder / words[-1]))
    if len(sheet) < 64:  # a single sample is neither enlarged nor framed
        return [sheet]
    sheet = sheet[GAP:, GAP:]
    return [sheet[:64:8, left : left + 64 : 8] for left in range(0, sheet.shape[1] - GAP, 64 + GAP)]


def test_a_picture_is_that_of_the_pipeline(page, folders):
    events = page.events("/api/draw", DRAW)
    assert [event["event"] for event in events[:2]] == ["queued", "started"]
    blocks, steps = named(events, "block"), named(events, "step")
    output = loaded(folders)(
        1,
        block=(2, 2),
        num_inference_steps=3,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(5),
    )
    assert np.array_equal(levels(blocks[-1]["image"]), levels(output.images[0]))
    assert [(each["block"], each["blocks"]) for each in blocks] == [(index, 4) for index in range(4)]
    assert blocks[-1]["evaluations"] == output.evaluations
    assert blocks[-1]["cache_bytes"] == output.cache_bytes
    assert [(each["block"], each["step"], each["steps"]) for each in steps] == [
        (block, step, 3) for block in range(4) for step in range(3)
    ]
    # the last step of a block is its part of the picture
    for block, (row, column) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        part = levels(output.images[0])[row : row + 4, column : column + 4]
        assert np.array_equal(levels(steps[3 * block + 2]["image"]), part)
        assert not np.array_equal(levels(steps[3 * block]["image"]), part)
    assert events[-1]["event"] == "done"


def test_blocks_that_are_not_drawn_yet_are_grey(page):
    first = levels(named(page.events("/api/draw", DRAW), "block")[0]["image"])
    assert (first[4:] == 127).all() or (first[4:] == 128).all()
    assert first[:4, :4].std() > 1


@pytest.mark.parametrize("change", [{}, {"label": None}, {"block": "4x4"}, {"guidance": 1}, {"block": "1x1"}])
def test_copied_texts_draw_the_same_picture(change, page, tmp_path, monkeypatch, capsys):
    events = page.events("/api/draw", DRAW | change)
    drawn, done = levels(named(events, "block")[-1]["image"]), events[-1]
    run_python(done["python"], tmp_path, monkeypatch)
    assert np.array_equal(levels(Image.open(tmp_path / "drawn.png")), drawn)
    assert ("--no-class" in done["command"]) == ("label" in change)
    (sample,) = run_command(done["command"], tmp_path, monkeypatch, capsys)
    assert np.array_equal(sample, drawn)


def test_the_model_of_digits_draws_what_the_command_line_draws(page, tmp_path, monkeypatch, capsys):
    events = page.events("/api/draw", DRAW | {"model": "mnist", "label": 3, "block": "4x4"})
    drawn = levels(named(events, "block")[-1]["image"])
    monkeypatch.chdir(tmp_path)
    assert "--model mnist " in events[-1]["command"]
    assert main(shlex.split(events[-1]["command"])[1:]) == 0, capsys.readouterr().err
    assert np.array_equal(np.asarray(Image.open("drawn.png")), drawn)


def test_the_same_request_gives_the_same_picture_and_another_seed_another(page):
    last = [
        named(page.events("/api/draw", DRAW | {"seed": seed}), "block")[-1]["image"] for seed in (5, 5, 6)
    ]
    assert last[0] == last[1] != last[2]


FINISH = DRAW | {"keep": 2, "count": 3}


def test_a_picture_is_finished_as_the_pipeline_does(page, folders, tmp_path, monkeypatch, capsys):
    given = picture(3, seed=1)
    events = page.events("/api/finish", FINISH | {"image": upload(given)})
    (start,) = named(events, "given")
    assert np.array_equal(levels(start["image"]), levels(given))
    assert start["kept"] == [[0, 0, 4, 4], [0, 4, 4, 4]]
    output = loaded(folders)(
        [1] * 3,
        image=given,
        keep_blocks=2,
        block=(2, 2),
        num_inference_steps=3,
        guidance_scale=2.0,
        generator=[torch.Generator().manual_seed(seed) for seed in (5, 6, 7)],
    )
    finished = [levels(url) for url in named(events, "block")[-1]["images"]]
    assert all(np.array_equal(one, levels(other)) for one, other in zip(finished, output.images, strict=True))
    assert all(np.array_equal(each[:4], levels(given)[:4]) for each in finished)
    assert not np.array_equal(finished[0], finished[1])

    opened(start["image"]).save(tmp_path / "picture.png")
    run_python(events[-1]["python"], tmp_path, monkeypatch)
    saved = [levels(Image.open(tmp_path / f"finished-{index}.png")) for index in range(3)]
    assert all(np.array_equal(one, other) for one, other in zip(saved, finished, strict=True))
    samples = run_command(events[-1]["command"], tmp_path, monkeypatch, capsys)
    assert all(np.array_equal(one, other) for one, other in zip(samples, finished, strict=True))


def test_finished_pictures_are_recognised(page, folders):
    events = page.events("/api/finish", FINISH | {"image": upload(picture(3))})
    (recognised,) = named(events, "recognised")
    assert recognised["model"] == "recogniser"
    pipe = acdit.load_pipeline(folders["recogniser"], kind=acdit.ACDiTImageClassificationPipeline)
    images = [opened(url) for url in named(events, "block")[-1]["images"]]
    for result, expected in zip(recognised["results"], pipe(images, top_k=3).predictions, strict=True):
        assert [each["label"] for each in result] == [each["label"] for each in expected]
        assert [each["score"] for each in result] == pytest.approx([each["score"] for each in expected])


def test_a_picture_of_another_size_is_seen_as_in_training(page, folders):
    wide = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    wide.paste("black", (0, 0, 30, 40))
    status, answer = page.post("/api/preview", {"model": "picture", "image": upload(wide), "block": "2x2"})
    assert status == 200
    seen = levels(answer["image"])
    assert seen.shape == (8, 8, 3)
    assert (seen[:, :3] < 30).all() and (seen[:, 5:] > 225).all()  # transparent is white


def test_a_photograph_with_a_second_picture_is_a_jpeg(page):
    file = BytesIO()
    picture(3, 40, 40).save(file, "MPO", save_all=True, append_images=[picture(3, 40, 40, 1)])
    url = encoded(file.getvalue(), "image/jpeg")
    status, answer = page.post("/api/preview", {"model": "picture", "image": url})
    assert status == 200 and levels(answer["image"]).shape == (8, 8, 3)


def test_keep_needs_a_block_that_is_left(page):
    for change, said in (
        ({"keep": 4}, "at most 3"),
        ({"block": "4x4"}, "smaller block"),
        ({"block": "4x4", "keep": 0}, "smaller block"),
        ({"keep": 0}, "at least 1 and at most 3"),
        ({"keep": 10**400}, "at most 3"),
    ):
        status, answer = page.post("/api/finish", FINISH | {"image": upload(picture(3))} | change)
        assert status == 400 and said in answer["error"]
