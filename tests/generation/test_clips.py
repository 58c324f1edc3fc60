"""`acdit sample` with a model of video: files that read back as what the pipeline draws."""

import av
import numpy as np
import pytest
import torch
from PIL import Image

from acdit.cli.main import main
from acdit.media.videos import read_frames, video_file
from acdit.pipelines.video import ACDiTVideoPipeline
from tests.pipelines.small import NAMES, build, network, quiet
from tests.pipelines.test_video import build as build_video


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    build_video().save_pretrained(folder)
    return str(folder)


def drawn(model, labels, seeds, **arguments):
    pipeline = quiet(ACDiTVideoPipeline.from_pretrained(model))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return [
        list(map(np.asarray, clip)) for clip in pipeline(labels, generator=generators, **arguments).frames
    ]


def near(found, expected, limit):
    return np.abs(np.asarray(found, float) - np.asarray(expected, float)).mean() < limit


def test_a_contact_sheet_has_a_row_for_each_clip(model, tmp_path, capsys):
    out = tmp_path / "clips.png"
    words = ["sample", "--model", model, "--labels", "1,ant", "--samples", "2", "--seed", "4"]
    assert main([*words, "--out", str(out)]) == 0
    with Image.open(out) as picture:
        assert picture.size == (6 * 68 + 4, 4 * 68 + 4)
        sheet = np.asarray(picture.convert("L"))
    for row, clip in enumerate(drawn(model, [1, 1, 0, 0], [4, 5, 6, 7])):
        for column, frame in enumerate(clip):
            top, left = 4 + 68 * row, 4 + 68 * column
            assert np.array_equal(sheet[top : top + 64 : 8, left : left + 64 : 8], frame)
    said = capsys.readouterr().out
    assert "4 videos of 6 frames" in said and "6 network evaluations per video" in said


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_a_long_video_file(model, tmp_path, suffix):
    out = tmp_path / f"clip.{suffix}"
    words = ["sample", "--model", model, "--labels", "2", "--frames", "10", "--rate", "5"]
    assert main([*words, "--window", "1", "--sinks", "1", "--out", str(out)]) == 0
    (expected,) = drawn(model, [2], [0], num_frames=10, window=1, sinks=1)
    with av.open(str(out)) as container:
        assert container.streams.video[0].average_rate == 5
    read = read_frames(out)
    assert len(read) == 10 and read[0].size == (8, 8)
    assert all(near(found.convert("L"), frame, 8) for found, frame in zip(read, expected, strict=True))


def test_several_videos_stand_side_by_side(model, tmp_path):
    out = tmp_path / "clips.mp4"
    assert main(["sample", "--model", model, "--labels", "0,1,2", "--samples", "2", "--out", str(out)]) == 0
    assert read_frames(out)[0].size == (2 * 68 + 4, 3 * 68 + 4)


def test_the_class_changes_from_block_to_block(model, tmp_path, capsys):
    """As the pipeline draws with an iterator; by names, for several clips, and after given frames."""
    out = tmp_path / "changing.png"
    words = ["sample", "--model", model, "--seed", "4", "--samples", "2", "--frames", "8"]
    assert main([*words, "--labels-by-block", "ant,0,cow,bee", "--out", str(out)]) == 0
    with Image.open(out) as picture:
        assert picture.size == (8 * 68 + 4, 2 * 68 + 4)
        sheet = np.asarray(picture.convert("L"))
    expected = drawn(model, iter([0, 0, 2, 1]), [4, 5], num_videos_per_prompt=2, num_frames=8)
    plain = drawn(model, [0, 0], [4, 5], num_frames=8)
    for row, clip in enumerate(expected):
        for column, frame in enumerate(clip):
            top, left = 4 + 68 * row, 4 + 68 * column
            assert np.array_equal(sheet[top : top + 64 : 8, left : left + 64 : 8], frame)
        same = [np.array_equal(*pair) for pair in zip(clip, plain[row], strict=True)]
        assert same == [True] * 4 + [False] * 4
    assert "2 videos of 8 frames" in capsys.readouterr().out
    with video_file(tmp_path / "given.gif", 10) as writer:
        for level in (20, 60):
            writer.add(Image.fromarray(np.full((8, 8, 3), level, np.uint8)))
    words += ["--prefix", str(tmp_path / "given.gif"), "--keep-frames", "2"]
    assert main([*words, "--labels-by-block", "1,2,0", "--out", str(tmp_path / "on.gif")]) == 0
    assert len(read_frames(tmp_path / "on.gif")) == 8
    assert main([*words, "--labels-by-block", "1,2,0,1", "--out", str(tmp_path / "no.gif")]) == 2
    said = capsys.readouterr().err
    assert (
        "names 4 classes, but 3 blocks are generated (8 frames, 2 of them given, in blocks of 2x4x4)" in said
    )
    assert said.count("\n") == 1 and not (tmp_path / "no.gif").exists()


def test_clips_without_a_class(model, tmp_path):
    words = ["sample", "--model", model, "--seed", "4"]
    assert main([*words, "--no-class", "--out", str(tmp_path / "none.gif")]) == 0
    (expected,) = drawn(model, [None], [4])
    read = [np.asarray(frame.convert("L")) for frame in read_frames(tmp_path / "none.gif")]
    assert all(map(np.array_equal, read, expected))
    assert main([*words, "--labels-by-block", '1,"",2', "--out", str(tmp_path / "some.gif")]) == 0
    (expected,) = drawn(model, iter([1, None, 2]), [4])
    read = [np.asarray(frame.convert("L")) for frame in read_frames(tmp_path / "some.gif")]
    assert all(map(np.array_equal, read, expected))


def test_a_clip_is_continued_from_a_file(model, tmp_path, capsys):
    frames = [Image.fromarray(np.full((8, 12, 3), 40 * index + 20, np.uint8)) for index in range(5)]
    with video_file(tmp_path / "real.mp4", 10) as writer:
        for frame in frames:
            writer.add(frame)
    words = ["sample", "--model", model, "--labels", "1", "--prefix", str(tmp_path / "real.mp4")]
    assert main([*words, "--keep-frames", "4", "--out", str(tmp_path / "done.png")]) == 0
    with Image.open(tmp_path / "done.png") as picture:
        sheet = np.asarray(picture.convert("L"))
    shown = [sheet[8:60, 8 + 68 * column : 60 + 68 * column] for column in range(6)]
    assert all(near(shown[index], 40 * index + 20, 8) for index in range(4))
    assert shown[4].std() > 10  # what the network draws
    assert main([*words, "--keep-frames", "6", "--frames", "8", "--out", str(tmp_path / "no.png")]) == 2
    assert "real.mp4 has 5 frames, fewer than --keep-frames 6" in capsys.readouterr().err
    Image.new("L", (808, 8)).save(
        tmp_path / "line.gif", save_all=True, append_images=[Image.new("L", (808, 8), 9)]
    )
    narrow = [*words[:5], "--prefix", str(tmp_path / "line.gif"), "--keep-frames", "2"]
    assert main([*narrow, "--out", str(tmp_path / "no.png")]) == 2
    assert "line.gif: 808x8 pixels is too narrow to crop\n" in capsys.readouterr().err
    by_block = [*words[:3], *words[5:], "--labels-by-block", "1", "--out", str(tmp_path / "no.png")]
    for kept, frames in ((4, 4), (4, 2), (3, 6)):
        assert main([*by_block, "--keep-frames", str(kept), "--frames", str(frames)]) == 2
        expected = f"--keep-frames must be a multiple of 2 (one block) and fewer than --frames, {frames}"
        assert f"{expected}, not {kept}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--frames", "7"], "multiple of 2"),
        (["--keep-blocks", "1", "--prefix", "a.mp4"], "--keep-blocks: only for models of images"),
        (["--count", "5", "--out", "set.npz"], "--count, --out set.npz: only for models of images, but this"),
        (["--prefix", "none.mp4", "--keep-frames", "2"], "none.mp4 cannot be read as video"),
        (["--prefix", "none.mp4"], "must be given together"),
        (["--samples", "30"], "more than --batch 64"),
        (["--out", "clip.avi"], "clip.avi"),
        (["--rate", "30"], "--rate applies to .mp4 and .gif files"),
        (["--rate", "60", "--out", "clip.gif"], "a .gif shows at most 50 frames a second, not 60"),
        (["--window", "0"], "window"),
        (["--sinks", "-1"], "--sinks"),
        (["--labels-by-block", "1,2"], "names 2 classes, but 3 blocks are generated (6 frames in blocks of"),
        (["--labels-by-block", "1,2,0", "--block", "2,2,4"], "--block"),
        (["--labels-by-block", "1,2,0", "--block", "2x2x4"], "names 3 classes, but 6 blocks are generated"),
        (["--labels-by-block", "1,2,cat"], "--labels-by-block must be classes of the model, 0..2, or names"),
        (["--labels-by-block", "1,2,3"], "not '3'"),
        (["--labels-by-block", "1,2,0", "--labels", "1"], "leave it out, or --labels-by-block"),
        (["--labels-by-block", "1,2,0", "--frames", "7"], "multiple of 2"),
        (["--no-class", "--labels", "1"], "leave it out, or --labels"),
        (["--no-class", "--labels-by-block", "1,2,0"], "leave it out, or --labels-by-block"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_take_one_line(model, words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "--model", model, *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_model_of_images_draws_no_video(tmp_path, monkeypatch, capsys):
    build(network(4), id2label=NAMES).save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    foreign = (["--out", "clip.gif"], ["--frames", "8"], ["--context-noise", "0.1"])
    for words in (*foreign, ["--labels-by-block", "1,1,2,2"]):
        assert main(["sample", "--model", "model", *words]) == 2
        err = capsys.readouterr().err
        assert words[0] in err and "for models of video" in err and err.count("\n") == 1
